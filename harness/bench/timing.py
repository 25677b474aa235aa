"""Raw speed of engines in llama-bench's terms.

    lengths, depths, batches -> tests
        -> random prompts -> session (own process) -> samples -> rows -> table, JSON, CSV, Markdown

Each test is repeated, after one repetition that does not count. Times are those that the engine's
batches report. One engine is loaded at a time: one that waits may take a share of the machine, and
memory that the other needs.
"""

from __future__ import annotations

import random
import string
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import cycle
from math import fsum
from pathlib import Path
from typing import TypeAlias, TypeVar

import numpy as np

from harness.bench.load import LoadBench, load_tests
from harness.bench.rows import BenchTest, LoadRow, Plan, Row, Sample
from harness.contract import Batch, Decoding, Prompt, TokenIds
from harness.engine.engine import Engine, EnginePlan, plan_engine
from harness.engine.options import check_options
from harness.engine.session import EngineSession
from harness.engine.transport import WorkerFailedError
from harness.errors import EngineError, UsageError
from harness.fit.memory import check_memory, free_now
from harness.spec import CONCURRENCY, RunSpec, concurrency_of, entries_of
from harness.stats.spans import busy_seconds

_LETTERS = string.ascii_letters + string.digits + " "
_TEXT_LENGTH = 20_000  # enough for thousands of different tokens
_SHORTER = "prompts and replies of at most {} tokens together"
_Value = TypeVar("_Value", int, float)
# Nothing is generated, and there is no label to score: what is left is the prefill alone.
_EVALUATE = Decoding("score", labels=())


@dataclass(frozen=True, slots=True)
class Update:
    """How far an entry is: `done` of `total` repetitions, and which test comes next.

    `repetition` 0 is the warm-up.
    """

    entry: str
    test: str
    repetition: int
    done: int
    total: int


Observer: TypeAlias = Callable[[Update], None]


def bench(
    plan: Plan, spec: RunSpec, logs: Path, observe: Observer = lambda _: None
) -> Generator[Row | LoadRow, None, None]:
    """The rows of all entries of the spec, each as soon as it is there; those of requests where the
    times are a client's. Raises `HarnessError`.

    Of the spec, only what concerns engines is read, and not its `max_model_len`: the context is as
    long as the longest test.
    """
    if not plan.tests:
        raise UsageError(
            "there is nothing to time: every length is 0",
            remedy="Give --prompt-tokens or --generate-tokens a length.",
        )
    check_options(spec)
    # all of them first: it hashes their models, and nothing else works while an engine is timed
    plans = [plan_engine(entry, spec, logs) for entry in entries_of(spec)]
    needed = {one.entry.name: _longest(plan, CONCURRENCY in one.options) for one in plans}
    free = free_now()
    for planned in plans if not spec.force else ():
        with closing(planned.open_tokenizer()) as opened:
            name = planned.entry.name
            try:
                check_memory(opened.predict_memory, needed[name], free, _SHORTER)
            except EngineError as error:
                raise EngineError(f"{name}: {error}", remedy=error.remedy) from error
    for planned in plans:
        yield from _rows_of(planned, needed[planned.entry.name], plan, spec, observe)


def _rows_of(
    planned: EnginePlan, longest: int, plan: Plan, spec: RunSpec, observe: Observer
) -> Iterator[Row | LoadRow]:
    def of_request(test: str, repetition: int, done: int, total: int) -> None:
        observe(Update(planned.entry.name, test, repetition, done, total))

    with Engine(planned, longest) as engine:
        _check_engine(engine, longest)
        prompts = RandomPrompts.of(engine.session, max(plan.depth), spec.seed)
        if engine.session.info.capabilities.clock == "engine":
            yield from _Bench(engine, prompts, plan, observe).rows()
            return
        of_requests = _longest(plan, of_requests=True)
        if longest >= of_requests:
            at_once = concurrency_of(spec, engine.name) or 1
            yield from LoadBench(engine, prompts, plan, at_once, of_request).rows()
            return
    # Whose clock it is was not known before: requests are longer than the tests of an engine's own.
    yield from _rows_of(planned, of_requests, plan, spec, observe)


def _longest(plan: Plan, of_requests: bool) -> int:
    """A request has a prompt and a reply of the lengths to be timed."""
    return max(test.longest for test in (load_tests(plan) if of_requests else plan.tests))


def _check_engine(engine: Engine, needed: int) -> None:
    """Raises `UsageError` where these tests cannot be put to the engine."""
    info = engine.load()
    if info.capabilities.prompts == "text":
        raise UsageError(
            f"{engine.name} takes prompts as text only, and bench times random token ids",
            remedy="Time it with `harness run`.",
        )
    if info.allocated_context < needed:
        raise UsageError(
            f"{engine.name}: the longest test takes {needed} tokens of context, and the engine has "
            f"no more than {info.allocated_context}",
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
        # In turn, not drawn: two prompts in a row that began with the same token would share it.
        self._firsts = cycle(self._token_ids)
        self.beginning = self._random.choices(shuffled[1::2], k=longest_depth)

    @classmethod
    def of(cls, session: EngineSession, longest_depth: int, seed: int) -> RandomPrompts:
        """From tokens of letters and digits: those are never special, and never end a reply."""
        letters = random.Random(seed).choices(_LETTERS, k=_TEXT_LENGTH)  # noqa: S311
        [found] = session.tokenize(["".join(letters)])
        return cls(sorted(set(found)), longest_depth, seed)

    def draw(self, count: int, depth: int, length: int) -> list[TokenIds]:
        """So many prompts of `depth` and `length` tokens; behind the depth each is another."""
        return [
            [
                *self.beginning[:depth],
                # No BOS in front: every cold prompt would share that one token with the prompt
                # before it.
                next(self._firsts),
                *self._random.choices(self._token_ids, k=length - 1),
            ]
            for _ in range(count)
        ]


@dataclass(slots=True)
class _Bench:
    """One engine being timed."""

    engine: Engine
    prompts: RandomPrompts
    plan: Plan
    observe: Observer
    done: int = 0

    def rows(self) -> Iterator[Row]:
        for test in self.plan.tests:
            yield from self._rows(test)

    def _rows(self, test: BenchTest) -> list[Row]:
        # As llama-bench writes `test_time`.
        begun = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        repeated = [self._repeat(test, number) for number in range(1 + self.plan.repetitions)]
        peak = self.engine.session.peak
        return [
            Row(
                entry=self.engine.name,
                backend=self.engine.plan.entry.backend,
                info=self.engine.session.info,
                model_sha256=self.engine.model_sha256,
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
        except WorkerFailedError as failure:
            raise EngineError(
                f"{self.engine.name} failed in {test.name}: {failure.reason}",
                remedy="Try smaller lengths or batches, or a longer --timeout-seconds.",
            ) from failure
        self.done += 1
        return samples

    def _evaluate(self, test: BenchTest) -> list[Sample]:
        """Cold and cached."""
        self._reach(test.depth)
        prompts = self.prompts.draw(test.batch, test.depth, test.prompt_tokens)
        cold, again = self._prompt(prompts, _EVALUATE), self._prompt(prompts, _EVALUATE)
        return [
            _sample(cold.prefill_tokens, cold.prefill_tokens, cold.prefill_seconds),
            # with nothing left to evaluate, what there is to time is how long the answer takes
            _sample(test.wanted_tokens, again.prefill_tokens, again.engine_seconds),
        ]

    def _generate(self, test: BenchTest) -> list[Sample]:
        self._reach(test.depth)
        prompts = self.prompts.draw(test.batch, test.depth, length=1)
        # One more than is timed: the first token comes out of the prefill. The end token must not
        # end it, or a test would be shorter than its name says.
        decoding = Decoding("free", (), max_tokens=test.generate_tokens + 1, ignore_end=True)
        answer = self._prompt(prompts, decoding)
        return [_sample(answer.decode_tokens, answer.decode_tokens, answer.decode_seconds)]

    def _reach(self, depth: int) -> None:
        """Has the engine evaluate, and with luck store, what stands before a test."""
        if depth:
            self._prompt([self.prompts.beginning[:depth]], _EVALUATE)

    def _prompt(self, prompts: Sequence[TokenIds], decoding: Decoding) -> Batch:
        """All batches of one call as one."""
        events = self.engine.session.generate(list(map(Prompt, prompts)), decoding)
        return _joined([one.event for one in events if isinstance(one.event, Batch)])


def _joined(batches: Sequence[Batch]) -> Batch:
    """As long as their spans together, in which those that overlap count once.

    A figure that one of them does not report is `None`.
    """
    spans = np.array([(batch.began, batch.ended) for batch in batches]).reshape(-1, 2)
    return Batch(
        replies=tuple(reply for batch in batches for reply in batch.replies),
        began=0.0,
        ended=fsum(busy_seconds(spans[:, 0], spans[:, 1])),
        prefill_tokens=_reported([batch.prefill_tokens for batch in batches], sum),
        prefill_seconds=_reported([batch.prefill_seconds for batch in batches], fsum),
        decode_tokens=_reported([batch.decode_tokens for batch in batches], sum),
        decode_seconds=_reported([batch.decode_seconds for batch in batches], fsum),
    )


def _reported(
    values: Sequence[_Value | None], add: Callable[[list[_Value]], _Value]
) -> _Value | None:
    reported = [value for value in values if value is not None]
    return add(reported) if len(reported) == len(values) else None


def _sample(tokens: int | None, evaluated: int | None, seconds: float | None) -> Sample:
    if tokens is None or evaluated is None or seconds is None:
        raise EngineError(
            "the engine reports no time of its own for this, or no number of tokens",
            remedy="Time it in a run: `harness run` shows the whole time of its replies.",
        )
    if seconds <= 0:
        raise EngineError("the engine did nothing, or reports no time for it")
    return Sample(tokens, evaluated, seconds)
