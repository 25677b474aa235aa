"""A run repeated: the same prompts, given cold again and again to an engine that stays open, or to
one that is opened for each round.

Every round goes the steps of `harness.pipeline.run` and is a run of its own in the store. What the
rounds came to is small enough to stand in a saved benchmark, and enough to compare it with a later
one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

from harness.comparison.metrics import METRICS
from harness.engine.engine import Engine
from harness.engine.session import EngineSession
from harness.pipeline import run
from harness.pipeline.prompting import prompt_entry
from harness.spec import RunSpec
from harness.stats.significance import Work
from harness.store.runs import StoredEntry, StoredRun
from harness.store.store import Store
from harness.summary import Baseline, RunSummary, Summary, headline, is_mock
from harness.testing.evidence import EXTRA_INFO, Evidence, Sample
from harness.workload.workload import Workload

Arguments: TypeAlias = tuple[tuple[str], dict[str, Any]]


class Benchmark(Protocol):
    """What is used of pytest-benchmark's fixture. It calls no `teardown` where it is disabled."""

    extra_info: dict[str, Any]

    def pedantic(
        self,
        target: Callable[[str], str],
        *,
        setup: Callable[[], Arguments],
        teardown: Callable[[str], None],
        rounds: int,
    ) -> str: ...


@dataclass(slots=True)
class Rounds:
    """The rounds of one test, over a workload that was drawn and packed before.

    With `fresh_engine` each of them has a worker of its own, which loads outside the time.
    """

    engine: Engine
    spec: RunSpec
    workload: Workload
    baselines: Sequence[Baseline]
    store: Store
    fresh_engine: bool = False
    summaries: list[Summary] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    """Which worker each round has ended with, counted from 1."""
    locks: ExitStack = field(default_factory=ExitStack)
    """Of the run of this round: no other process prompts it."""
    _last: EngineSession | None = None
    _began: float = 0.0
    _busy_before: float = 0.0

    def begin(self) -> Arguments:
        """Outside the time of the round."""
        if self.fresh_engine:
            self.engine.restart()
            self.engine.load()
        else:
            # Or all rounds but the first would find their prompts in the cache.
            self.engine.make_cold()
        self._began, self._busy_before = time.perf_counter(), self.engine.busy_seconds
        begun = run.begin(self.store, self.spec, self.workload, locks=self.locks)
        return (begun,), {}

    def prompt(self, run_id: str) -> str:
        """What is timed."""
        prompt_entry(self.engine, self.spec, self.workload, self.store, run_id, lambda _: None)
        return run_id

    def finish(self, run_id: str) -> None:
        """Sums up. Raises `EngineError` where the round has no reply at all."""
        busy_seconds = self.engine.busy_seconds - self._busy_before
        summary = run.finish(self.store, run_id, self.baselines, self._began, busy_seconds)
        self.locks.close()
        run.check_answered(summary)
        self.summaries.append(summary)
        is_same = self.engine.session is self._last
        # An engine that failed in a round was started again, even without `fresh_engine`.
        self.numbers.append(max(self.numbers, default=0) + (not is_same))
        self._last = self.engine.session


def repeat(benchmark: Benchmark, rounds: Rounds, count: int) -> RunSummary:
    """Times so many rounds, and leaves their evidence in the benchmark's `extra_info`.

    The time is that of prompting. Returns the last round's summary. Raises `HarnessError`, also
    where a round got no reply at all.
    """
    with rounds.locks:
        last = benchmark.pedantic(
            rounds.prompt, setup=rounds.begin, teardown=rounds.finish, rounds=count
        )
        # pytest-benchmark is disabled: it has called the target once, and no `teardown`.
        if not rounds.summaries:
            rounds.finish(last)
    benchmark.extra_info[EXTRA_INFO] = _evidence(rounds).model_dump(mode="json")
    [result] = rounds.summaries[-1].runs
    return result


def _evidence(rounds: Rounds) -> Evidence:
    entries = [
        StoredRun(rounds.store, rounds.store.run(summary.run_id)).entry(rounds.engine.name)
        for summary in rounds.summaries
    ]
    last = entries[-1]
    result, info = last.summary, last.info
    return Evidence(
        backend=result.backend,
        model=result.model,
        engine_version=result.engine_version,
        weights=result.weights,
        model_sha256=last.sessions[-1].model_sha256 if last.sessions else None,
        device=info.device if info else None,
        threads=info.threads if info else None,
        is_mock=is_mock(result),
        prompts=result.prompts,
        vote=result.accuracy.headline,
        accuracy=headline(result),
        parse=result.parse,
        context_fit=result.context_fit,
        memory=result.memory,
        cells=result.cells,
        shares=_shares(last),
        samples=[
            _sample(entry, number) for entry, number in zip(entries, rounds.numbers, strict=True)
        ],
    )


def _shares(entry: StoredEntry) -> dict[str, list[float | None]]:
    # Each row once, in the order of the queries: all voters are given the same ones.
    rows = dict.fromkeys(prompt.row for prompt in entry.run.prompts if prompt.role == "query")
    by_metric = {
        name: metric.samples(entry)
        for name, metric in METRICS.items()
        if metric.is_share and metric.samples
    }
    return {
        name: [shares.get(row) for row in rows] if shares else []
        for name, shares in by_metric.items()
    }


def _sample(entry: StoredEntry, number: int) -> Sample:
    """Metrics that the engine has no figure of are left out: most are of another clock."""
    figures = {name: metric.figure(entry.summary) for name, metric in METRICS.items()}
    values = {name: figure for name, figure in figures.items() if figure is not None}
    rates = {
        name: metric.samples(entry)
        for name, metric in METRICS.items()
        if metric.kind == "rate" and metric.samples and name in values
    }
    return Sample(
        run_id=entry.run.run_id,
        session=number,
        values=values,
        work={name: _totals(work) for name, work in rates.items()},
    )


def _totals(work: Work) -> tuple[float, float]:
    return float(work.amounts.sum()), float(work.took.sum())
