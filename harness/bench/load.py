"""Tests of fixed length on an engine whose times are a client's: a closed loop of requests.

As soon as one has ended, the next is sent in its place. Each test is done twice: with prompts that
share nothing with any before them (cold), and with the same ones once more (cached).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from harness.bench.rows import LoadRow, LoadTest, Plan
from harness.contract import Batch, Decoding, Prompt, Reply, TokenIds
from harness.engine.engine import Engine
from harness.engine.transport import WorkerFailedError
from harness.errors import EngineError, UsageError
from harness.record import Measured
from harness.stats.significance import Times, Values, in_blocks, measured, work_in_blocks
from harness.stats.spans import busy_seconds
from harness.stats.tails import tail
from harness.summary import Tail

if TYPE_CHECKING:
    from harness.bench.timing import RandomPrompts


def load_tests(plan: Plan) -> list[LoadTest]:
    """Each prompt length with each reply length, at each depth. A length of 0 is the shortest that
    there is: a prompt, or a reply, of one token."""
    return [
        LoadTest(prompt, reply, depth)
        for depth, prompt, reply in product(plan.depth, plan.prompt_tokens, plan.generate_tokens)
        if prompt or reply
    ]


@dataclass(frozen=True, slots=True)
class LoadBench:
    """One engine that is given requests, `concurrency` at once."""

    engine: Engine
    prompts: RandomPrompts
    plan: Plan
    concurrency: int
    observe: Callable[[str, int, int, int], None]

    def rows(self) -> Iterator[LoadRow]:
        if self.plan.batch != Plan().batch:
            raise UsageError(
                f"{self.engine.name}: --batch is for engines that are timed by their own clock",
                remedy="Leave it out: --concurrency says how many requests are in flight.",
            )
        tests = load_tests(self.plan)
        for number, test in enumerate(tests):
            self.observe(test.name, 0, number, len(tests))
            # As many as are in flight, so that the server has seen so many at once.
            self._serve(test, self._drawn(test, self.concurrency))
            self.observe(test.name, 1, number, len(tests))
            drawn = self._drawn(test, self.concurrency * self.plan.repetitions)
            yield self._row(test, drawn)
            yield self._row(replace(test, is_cached=True), drawn)

    def _drawn(self, test: LoadTest, count: int) -> list[TokenIds]:
        return self.prompts.draw(count, test.depth, max(test.prompt_tokens, 1))

    def _row(self, test: LoadTest, prompts: Sequence[TokenIds]) -> LoadRow:
        begun = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        timed = _Timed.of(self._serve(test, prompts))
        if not timed.answered:
            why = timed.failed[0].text if timed.failed else "no reply"
            raise EngineError(
                f"{self.engine.name} answered none of {len(prompts)} requests of {test.name}: "
                f"{why}",
                remedy="See the server's log.",
            )
        cached = [reply.cached_tokens for reply in timed.answered]
        return LoadRow(
            entry=self.engine.name,
            backend=self.engine.plan.entry.backend,
            info=self.engine.session.info,
            test=test,
            concurrency=self.concurrency,
            begun=begun,
            requests=len(timed.answered),
            failed=len(timed.failed),
            seconds=float(timed.busy.sum()),
            cached_tokens=None if None in cached else sum(one or 0 for one in cached),
            requests_per_second=timed.rate(lambda _: 1),
            output_tokens_per_second=timed.rate(lambda reply: len(reply.token_ids)),
            request_time_to_first_token_ms=timed.tail(
                lambda reply, _: reply.time_to_first_token_ms
            ),
            request_time_per_output_token_ms=timed.tail(
                lambda reply, _: reply.time_per_output_token_ms
            ),
            request_seconds=timed.tail(lambda _, batch: batch.engine_seconds),
        )

    def _serve(self, test: LoadTest, prompts: Sequence[TokenIds]) -> list[Batch]:
        # The end token must not end it, or a test would be shorter than its name says.
        decoding = Decoding("free", (), max_tokens=max(test.generate_tokens, 1), ignore_end=True)
        try:
            events = self.engine.session.generate(list(map(Prompt, prompts)), decoding)
            return [one.event for one in events if isinstance(one.event, Batch)]
        except WorkerFailedError as failure:
            raise EngineError(
                f"{self.engine.name} failed in {test.name}: {failure.reason}",
                remedy="Use shorter lengths, or a lower --concurrency.",
            ) from failure


@dataclass(frozen=True, slots=True)
class _Timed:
    """Requests in the order of time: the seconds that each adds to the union of their spans, and
    the block of neighbours that it belongs to. What failed took its time, too."""

    batches: Sequence[Batch]
    busy: Values
    blocks: NDArray[np.int64]

    @classmethod
    def of(cls, batches: Iterable[Batch]) -> _Timed:
        ordered = sorted(batches, key=lambda batch: batch.began)
        spans = np.array([(one.began, one.ended) for one in ordered]).reshape(-1, 2)
        busy = busy_seconds(spans[:, 0], spans[:, 1])
        return cls(ordered, busy, in_blocks(busy))

    @property
    def answered(self) -> list[Reply]:
        return [one for batch in self.batches for one in batch.replies if _is_answer(one)]

    @property
    def failed(self) -> list[Reply]:
        return [one for batch in self.batches for one in batch.replies if not _is_answer(one)]

    def rate(self, amount_of: Callable[[Reply], int]) -> Measured | None:
        """What was done in a second, such as requests."""
        done = [sum(map(amount_of, filter(_is_answer, batch.replies))) for batch in self.batches]
        return measured(work_in_blocks(self.blocks, np.array(done, dtype=np.float64), self.busy))

    def tail(self, time_of: Callable[[Reply, Batch], float | None]) -> Tail | None:
        """Of the times that there are."""
        times: dict[int, list[float]] = {block: [] for block in np.unique(self.blocks).tolist()}
        for block, batch in zip(self.blocks.tolist(), self.batches, strict=True):
            each = (time_of(reply, batch) for reply in batch.replies if _is_answer(reply))
            times[block] += filter(None, each)  # a clock may be too coarse for some
        return tail(Times(tuple(np.array(known) for known in times.values() if known)))


def _is_answer(reply: Reply) -> bool:
    return reply.finish in ("stop", "length")
