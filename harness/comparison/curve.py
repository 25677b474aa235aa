"""How accuracy, parse rate, speed and memory go with the number of examples, or with the context.

The points of a curve are the runs of a group that differ in that alone: the same queries, and of
the examples each point shows those of the points with fewer, and more.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

import numpy as np

from harness.baselines.registry import KINDS
from harness.comparison.metrics import METRICS
from harness.comparison.samples import ACCURACY, right_by_query
from harness.metrics import Difference
from harness.record import Estimate, Record
from harness.spec import RunSpec
from harness.stats.plateau import LEAST_LATER, common, find_plateau
from harness.stats.significance import share_difference
from harness.store.runs import StoredRun
from harness.summary import RunSummary, headline, is_mock

Varied: TypeAlias = Literal["shots", "max_model_len"]
VARIED: tuple[Varied, ...] = ("shots", "max_model_len")
"""The fields of a spec that a curve of accuracy may be against."""
_OUTCOME = Literal["stops", "rises", "unknown"]
_OF_EXAMPLES = frozenset(one.name for one in KINDS if one.needs_voters)


class CurvePoint(Record):
    """One entry with one number of examples.

    `examples` is the mean over voters. `better_p`: the p-value that none of the later points is
    better; `None` behind the point at which the curve stops, and where it was not tested.
    """

    run_id: str
    shots: int | None
    max_model_len: int
    examples: float
    accuracy: Estimate | None
    parse_rate: float | None
    prefill_tokens_per_second: float | None
    decode_tokens_per_second: float | None
    peak_rss_mib: float | None
    peak_gpu_mib: float | None
    better_p: float | None = None


class EntryCurve(Record):
    """`outcome`: "stops" at the run `stops_at`, from which on no later point is better; "rises" up
    to the last points as far as was tried; "unknown" of too few points. `queries` are those with a
    verdict at every point. `last` is how the last point differs from the one where it stops."""

    entry: str
    backend: str
    model: str
    is_mock: bool
    queries: int
    points: list[CurvePoint]
    outcome: _OUTCOME
    stops_at: str | None
    last: Difference | None


class BaselineCurve(Record):
    """`accuracies` has one for each run, `None` where the baseline could not be fitted.
    `is_of_examples`: it learns from the examples that the prompts of the point show, and so changes
    from point to point."""

    baseline: str
    is_of_examples: bool
    accuracies: list[Estimate | None]


class Curve(Record):
    """`varied` is the field of the spec in which the runs differ."""

    varied: Varied
    run_ids: list[str]
    entries: list[EntryCurve]
    baselines: list[BaselineCurve]


def curve_of(runs: Sequence[StoredRun]) -> Curve | None:
    """The curve of these runs; `None` where fewer than two are finished, or where they differ in
    something else."""
    finished = [run for run in runs if run.is_finished]
    varied = varied_by([run.spec for run in finished])
    # One name of a file may stand for two contents.
    if varied is None or len({run.data_sha256 for run in finished}) > 1:
        return None
    # Of as many examples the one of the longer context comes later.
    ordered = sorted(finished, key=lambda run: (_examples(run), run.spec.max_model_len))
    return Curve(
        varied=varied,
        run_ids=[run.run_id for run in ordered],
        entries=[_entry(name, ordered) for name in ordered[0].entries],
        baselines=_baselines(ordered),
    )


def varied_by(specs: Sequence[RunSpec]) -> Varied | None:
    """The one field in which all of the specs differ."""
    for field in VARIED:
        left: set[str] = {field}
        others = [spec.model_dump(exclude=left) for spec in specs]
        values = {getattr(spec, field) for spec in specs}
        if len(specs) > 1 and len(values) == len(specs) and all(one == others[0] for one in others):
            return field
    return None


def _examples(run: StoredRun) -> float:
    return METRICS["examples_per_voter"].figure(run.summary.runs[0]) or 0.0


def _entry(name: str, runs: Sequence[StoredRun]) -> EntryCurve:
    entries = [run.entry(name) for run in runs]
    sides = [right_by_query(entry) for entry in entries]
    right = common(sides)
    queries = right.shape[1]
    found = find_plateau(right) if queries else None
    summaries = [entry.summary for entry in entries]
    points = [_point(run, one) for run, one in zip(runs, summaries, strict=True)]
    for place, p_value in enumerate(found.p_values if found else ()):
        points[place] = points[place].model_copy(update={"better_p": p_value})
    outcome: _OUTCOME = "rises"
    stops_at, last = None, None
    if found is None or len(runs) <= LEAST_LATER:
        outcome = "unknown"
    elif found.place is not None:
        outcome, stops_at = "stops", runs[found.place].run_id
        last = share_difference(METRICS[ACCURACY], right[found.place], right[-1], paired=True)
    return EntryCurve(
        entry=name,
        backend=summaries[0].backend,
        model=summaries[0].model,
        is_mock=is_mock(summaries[0]),
        queries=queries,
        points=points,
        outcome=outcome,
        stops_at=stops_at,
        last=last,
    )


def _point(run: StoredRun, one: RunSummary) -> CurvePoint:
    shown = one.context_fit.examples_per_voter
    return CurvePoint(
        run_id=run.run_id,
        shots=run.spec.shots,
        max_model_len=run.spec.max_model_len,
        examples=float(np.mean(shown)),
        accuracy=headline(one),
        parse_rate=METRICS["parse_rate"].figure(one),
        prefill_tokens_per_second=one.speed.prefill_tokens_per_second,
        decode_tokens_per_second=one.speed.decode_tokens_per_second,
        peak_rss_mib=one.memory.peak_rss_mib,
        peak_gpu_mib=one.memory.peak_gpu_mib,
    )


def _baselines(runs: Sequence[StoredRun]) -> list[BaselineCurve]:
    each = [{one.name: one for one in run.summary.baselines} for run in runs]
    kinds = {name: one.kind for at_point in each for name, one in at_point.items()}
    return [
        BaselineCurve(
            baseline=name,
            is_of_examples=kind in _OF_EXAMPLES,
            accuracies=[one[name].estimate if name in one else None for one in each],
        )
        for name, kind in kinds.items()
    ]
