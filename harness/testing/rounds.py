"""A run repeated: the same prompts, asked cold again and again of an engine that stays open.

Every round goes the steps of `harness.pipeline.run` and is a run of its own in the store. What the
rounds came to is small enough to stand in a saved benchmark, and enough to compare it with a later
one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any, Protocol, TypeAlias

from harness.comparison.sides import Side, read_side, readable_by_query, right_by_query
from harness.engine.engine import Engine
from harness.metrics import metrics_of
from harness.pipeline import run
from harness.pipeline.asking import ask
from harness.pipeline.replay import Source
from harness.pipeline.summarise import make_controls
from harness.spec import RunSpec
from harness.store.store import Store
from harness.summary import Controls, RunSummary, Summary
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


def repeat(
    benchmark: Benchmark,
    engine: Engine,
    spec: RunSpec,
    store: Store,
    source: Source | None,
    rounds: int,
) -> RunSummary:
    """Times so many rounds, and leaves their evidence in the benchmark's `extra_info`.

    The workload is drawn and packed once, outside the time, which is that of asking. Returns the
    last round's summary. Raises `HarnessError`, also where a round got no reply at all.
    """
    _ = engine.model_sha256  # waits until the model's file is hashed: nothing else works meanwhile
    workload = run.make_workload(spec, [engine], source)
    repeated = _Rounds(engine, spec, workload, make_controls(spec, workload), store)
    last = benchmark.pedantic(
        repeated.ask, setup=repeated.begin, teardown=repeated.finish, rounds=rounds
    )
    if not repeated.summaries:
        repeated.finish(last)
    evidence = _evidence(store, spec, repeated.summaries)
    benchmark.extra_info[EXTRA_INFO] = evidence.model_dump(mode="json")
    [result] = repeated.summaries[-1].runs
    return result


@dataclass(slots=True)
class _Rounds:
    """The rounds of one test; the clocks are of the one that is under way."""

    engine: Engine
    spec: RunSpec
    workload: Workload
    controls: Controls
    store: Store
    summaries: list[Summary] = field(default_factory=list)
    began: float = 0.0
    busy_before: float = 0.0

    def begin(self) -> Arguments:
        self.engine.make_cold()
        self.began, self.busy_before = time.perf_counter(), self.engine.busy_seconds
        return (run.begin(self.store, self.spec, self.workload),), {}

    def ask(self, run_id: str) -> str:
        ask(self.engine, self.spec, self.workload.packed, self.store, run_id, lambda _: None)
        return run_id

    def finish(self, run_id: str) -> None:
        busy_seconds = self.engine.busy_seconds - self.busy_before
        summary = run.finish(
            self.store, run_id, self.spec, self.workload, self.controls, self.began, busy_seconds
        )
        run.check_answered(summary)
        self.summaries.append(summary)


def _evidence(store: Store, spec: RunSpec, summaries: Sequence[Summary]) -> Evidence:
    sides = [read_side(store, summary, summary.runs[0], spec) for summary in summaries]
    last = sides[-1]
    result, info = last.run, last.session.info
    vote = result.accuracy.headline
    rows = dict.fromkeys(prompt.row for prompt in last.prompts if prompt.role == "query")
    right, readable = right_by_query(last), readable_by_query(last)
    return Evidence(
        backend=result.backend,
        model=result.model,
        engine_version=result.engine_version,
        weights=result.weights,
        model_sha256=last.session.model_sha256,
        device=info.device,
        threads=info.threads,
        is_mock=info.is_mock,
        prompts=result.prompts,
        metrics=metrics_of(result),
        vote=vote,
        accuracy=getattr(result.accuracy, vote),
        parse=result.parse,
        context_fit=result.context_fit,
        memory=result.memory,
        cells=result.cells,
        right="".join("-" if (one := right.get(row)) is None else f"{one:.0f}" for row in rows),
        readable=[readable.get(row) for row in rows] if readable else [],
        samples=[_sample(side) for side in sides],
    )


def _sample(side: Side) -> Sample:
    times = [
        cell.reply.time_to_first_token_ms
        for cell in side.cells
        if cell.reply is not None and cell.reply.time_to_first_token_ms is not None
    ]
    return Sample(
        run_id=side.member.run_id,
        prefill_tokens=sum(batch.prefill_tokens for batch in side.batches),
        prefill_seconds=sum(batch.prefill_seconds for batch in side.batches),
        decode_tokens=sum(batch.decode_tokens for batch in side.batches),
        decode_seconds=sum(batch.decode_seconds for batch in side.batches),
        time_to_first_token_ms=fmean(times) if times else None,
    )
