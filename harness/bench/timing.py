"""Raw speed of engines in llama-bench's terms.

    lengths, depths, batches -> tests
        -> random prompts -> session (own process) -> samples -> rows -> table, JSON, CSV, Markdown

Each test is repeated, after one repetition that does not count. Times are the engine's own, as its
`Batch` events tell them. One engine is loaded at a time: one that waits may take a share of the
machine, and memory that the other needs.
"""

from __future__ import annotations

import random
import string
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import cycle, product
from math import fsum
from pathlib import Path
from typing import TypeAlias

from backends.api import Batch, Decoding, TokenIds
from harness.bench.rows import BenchTest, Row, Sample
from harness.engine.engine import Engine, check_options
from harness.engine.session import EngineSession, WorkerLostError
from harness.errors import EngineError, UsageError
from harness.spec import RunSpec

_LETTERS = string.ascii_letters + string.digits + " "
_TEXT_LENGTH = 20_000  # enough for thousands of different tokens
_EVALUATE = Decoding("score", labels=())


@dataclass(frozen=True, slots=True)
class Plan:
    """What to time: the cross product of the lists, each test `repetitions` times."""

    prompt_tokens: tuple[int, ...] = (512,)
    generate_tokens: tuple[int, ...] = (128,)
    depth: tuple[int, ...] = (0,)
    batch: tuple[int, ...] = (1,)
    repetitions: int = 5

    @property
    def tests(self) -> list[BenchTest]:
        """In the order of llama-bench: at each batch and depth, prompts, then generation.

        A length of 0 leaves its test out, as there.
        """
        tests = []
        for batch, depth in product(self.batch, self.depth):
            tests += [BenchTest(n, 0, depth, batch) for n in self.prompt_tokens if n]
            tests += [BenchTest(0, n, depth, batch) for n in self.generate_tokens if n]
        return tests


@dataclass(frozen=True, slots=True)
class Update:
    """How far a backend is: `done` of `total` repetitions, and which test comes next.

    `repetition` 0 is the warm-up.
    """

    backend: str
    test: str
    repetition: int
    done: int
    total: int


Observer: TypeAlias = Callable[[Update], None]


def bench(
    plan: Plan, spec: RunSpec, logs: Path, observe: Observer = lambda _: None
) -> Generator[Row, None, None]:
    """The rows of all backends of the spec, each as soon as it is there. Raises `HarnessError`.

    Of the spec, only what concerns engines is read, and not its `max_model_len`: the context is as
    long as the longest test.
    """
    if not plan.tests:
        raise UsageError(
            "there is nothing to time: every length is 0",
            remedy="Give --prompt-tokens or --generate-tokens a length.",
        )
    check_options(spec)
    needed = max(test.longest for test in plan.tests)
    sized = spec.model_copy(update={"max_model_len": needed})
    for name in spec.backend:
        with Engine(name, sized, logs / f"{name}.log") as engine:
            _check_context(engine, needed)
            prompts = RandomPrompts.of(engine.session, max(plan.depth), spec.seed)
            # waits until the model's file is hashed: nothing else works while an engine is timed
            digest = engine.model_sha256
            yield from _Bench(engine, digest, prompts, plan, observe).rows()


def _check_context(engine: Engine, needed: int) -> None:
    allocated = engine.session.info.allocated_context
    if allocated < needed:
        raise UsageError(
            f"{engine.name}: the longest test takes {needed} tokens of context, and the engine has "
            f"no more than {allocated}",
            remedy="Give smaller lengths or depths.",
        )


class RandomPrompts:
    """Prompts of random tokens, of which no two in a row have more in common than the depth.

    `beginning` is what stands at every depth. Its tokens are none of those that come behind it, so
    an engine that holds a longer beginning shares no more of it than a test says.
    """

    def __init__(self, token_ids: Sequence[int], longest_depth: int, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311 - nothing here is a secret
        shuffled = self._random.sample(token_ids, len(token_ids))
        self._token_ids = shuffled[::2]
        self._firsts = cycle(self._token_ids)
        self.beginning = self._random.choices(shuffled[1::2], k=longest_depth)

    @classmethod
    def of(cls, session: EngineSession, longest_depth: int, seed: int) -> RandomPrompts:
        """From tokens of letters and digits: those are never special, and never end a reply."""
        letters = random.Random(seed).choices(_LETTERS, k=_TEXT_LENGTH)  # noqa: S311
        [found] = session.tokenize(["".join(letters)])
        return cls(sorted(set(found)), longest_depth, seed)

    def draw(self, count: int, depth: int, length: int) -> list[TokenIds]:
        """So many prompts of `depth` and `length` tokens; behind the depth each begins anew."""
        return [
            [
                *self.beginning[:depth],
                next(self._firsts),
                *self._random.choices(self._token_ids, k=length - 1),
            ]
            for _ in range(count)
        ]


@dataclass(slots=True)
class _Bench:
    """One engine being timed."""

    engine: Engine
    model_sha256: str | None
    prompts: RandomPrompts
    plan: Plan
    observe: Observer
    done: int = 0

    def rows(self) -> Iterator[Row]:
        for test in self.plan.tests:
            yield from self._rows(test)

    def _rows(self, test: BenchTest) -> list[Row]:
        begun = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        repeated = [self._repeat(test, number) for number in range(1 + self.plan.repetitions)]
        peak = self.engine.session.peak
        return [
            Row(
                backend=self.engine.name,
                info=self.engine.session.info,
                model_sha256=self.model_sha256,
                test=of_row,
                begun=begun,
                warm_up=warm_up,
                samples=tuple(samples),
                peak_rss_mib=peak.rss_mib,
                peak_gpu_mib=peak.gpu_mib,
            )
            for of_row, (warm_up, *samples) in zip(
                test.rows, zip(*repeated, strict=True), strict=True
            )
        ]

    def _repeat(self, test: BenchTest, number: int) -> list[Sample]:
        """One repetition: a sample for each row of the test."""
        total = len(self.plan.tests) * (1 + self.plan.repetitions)
        self.observe(Update(self.engine.name, test.name, number, self.done, total))
        try:
            samples = self._generate(test) if test.generate_tokens else self._evaluate(test)
        except WorkerLostError as lost:
            raise EngineError(
                f"{self.engine.name} was lost in {test.name}: {lost.reason}",
                remedy="Try smaller lengths or batches, or a longer --timeout-seconds.",
            ) from lost
        self.done += 1
        return samples

    def _evaluate(self, test: BenchTest) -> list[Sample]:
        """Cold and cached."""
        self._reach(test.depth)
        prompts = self.prompts.draw(test.batch, test.depth, test.prompt_tokens)
        cold, again = self._ask(prompts, _EVALUATE), self._ask(prompts, _EVALUATE)
        return [
            _sample(cold.prefill_tokens, cold.prefill_tokens, cold.prefill_seconds),
            # with nothing left to evaluate, what there is to time is how long the answer takes
            _sample(test.asked_tokens, again.prefill_tokens, again.engine_seconds),
        ]

    def _generate(self, test: BenchTest) -> list[Sample]:
        self._reach(test.depth)
        prompts = self.prompts.draw(test.batch, test.depth, length=1)
        decoding = Decoding("free", (), max_tokens=test.generate_tokens + 1, ignore_end=True)
        answer = self._ask(prompts, decoding)
        return [_sample(answer.decode_tokens, answer.decode_tokens, answer.decode_seconds)]

    def _reach(self, depth: int) -> None:
        """Has the engine evaluate, and with luck keep, what stands before a test."""
        if depth:
            self._ask([self.prompts.beginning[:depth]], _EVALUATE)

    def _ask(self, prompts: Sequence[TokenIds], decoding: Decoding) -> Batch:
        """All batches of one call as one."""
        events = self.engine.session.generate(prompts, decoding)
        return _joined([event for event in events if isinstance(event, Batch)])


def _joined(batches: Sequence[Batch]) -> Batch:
    return Batch(
        replies=tuple(reply for batch in batches for reply in batch.replies),
        engine_seconds=fsum(batch.engine_seconds for batch in batches),
        prefill_tokens=sum(batch.prefill_tokens for batch in batches),
        prefill_seconds=fsum(batch.prefill_seconds for batch in batches),
        decode_tokens=sum(batch.decode_tokens for batch in batches),
        decode_seconds=fsum(batch.decode_seconds for batch in batches),
    )


def _sample(tokens: int, evaluated: int, seconds: float) -> Sample:
    if seconds <= 0:
        raise EngineError("the engine did nothing, or told no time for it")
    return Sample(tokens, evaluated, seconds)
