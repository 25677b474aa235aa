"""Tests of fixed length on an engine whose times are a client's: a closed loop of requests.

As soon as one has ended, the next is sent in its place. Each test is done twice: with prompts that
share nothing with any before them (cold), and with the same ones once more (cached).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
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
from harness.stats.significance import Times, Values, Work, in_blocks, measured
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
                remedy="Use --concurrency.",
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
        batches = sorted(self._serve(test, prompts), key=lambda batch: batch.began)
        failed = [one for batch in batches for one in batch.replies if not _is_answer(one)]
        answered = [batch for batch in batches if all(map(_is_answer, batch.replies))]
        if not answered:
            raise EngineError(
                f"{self.engine.name} answered none of {len(prompts)} requests of {test.name}: "
                f"{failed[0].text if failed else 'no reply'}",
                remedy="See the server's log.",
            )
        replies = [batch.replies[0] for batch in answered]
        timed = _Timed.of(answered)
        cached = [reply.cached_tokens for reply in replies]
        return LoadRow(
            entry=self.engine.name,
            backend=self.engine.plan.entry.backend,
            info=self.engine.session.info,
            test=test,
            concurrency=self.concurrency,
            begun=begun,
            requests=len(answered),
            failed=len(failed),
            seconds=float(timed.busy.sum()),
            cached_tokens=None if None in cached else sum(one or 0 for one in cached),
            requests_per_second=timed.rate([1] * len(answered)),
            output_tokens_per_second=timed.rate([len(one.token_ids) for one in replies]),
            request_time_to_first_token_ms=timed.tail(
                [one.time_to_first_token_ms for one in replies]
            ),
            request_time_per_output_token_ms=timed.tail(
                [one.time_per_output_token_ms for one in replies]
            ),
            request_seconds=timed.tail([batch.engine_seconds for batch in answered]),
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
                remedy="Try smaller lengths, or fewer at once.",
            ) from failure


@dataclass(frozen=True, slots=True)
class _Timed:
    """Requests in the order of time: the seconds that each adds to the union of their spans, and
    the block of neighbours that it belongs to."""

    busy: Values
    blocks: NDArray[np.int64]

    @classmethod
    def of(cls, batches: Sequence[Batch]) -> _Timed:
        spans = np.array([(batch.began, batch.ended) for batch in batches])
        busy = busy_seconds(spans[:, 0], spans[:, 1])
        return cls(busy, in_blocks(busy))

    def rate(self, amounts: Sequence[int]) -> Measured | None:
        """What was done in a second, such as requests."""
        there = np.unique(self.blocks)
        each = np.array(amounts, dtype=np.float64)
        done, took = (
            np.bincount(self.blocks, column)[there].astype(np.float64)
            for column in (each, self.busy)
        )
        return measured(Work(done, took)) if done.all() else None

    def tail(self, times: Sequence[float | None]) -> Tail | None:
        """Of the times that there are."""
        pairs = list(zip(self.blocks, times, strict=True))
        each = ([time for of, time in pairs if of == block and time] for block in {*self.blocks})
        return tail(Times(tuple(np.array(known) for known in each if known)))


def _is_answer(reply: Reply) -> bool:
    return reply.finish in ("stop", "length")
