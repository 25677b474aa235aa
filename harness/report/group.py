"""A group of runs as one table: what tells them apart, and what came of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.console import Group, RenderableType

from harness.comparison.curve import Curve
from harness.comparison.load import LoadCurve
from harness.comparison.metrics import METRICS
from harness.machine.environment import Environment
from harness.record import Record
from harness.report import load as of_load
from harness.report.answer import Beside, RunJson, entry_columns, entry_records, run_json
from harness.report.curve import describe, records
from harness.report.figures import MOCK_LABEL
from harness.report.formats import Answer
from harness.report.table import simple_table
from harness.report.text import NOTHING, brief, lines, number
from harness.report.words import headline_share
from harness.spec import RunSpec
from harness.summary import RunSummary, Summary, is_mock

_SPEED = METRICS["prefill_tokens_per_second"]
_TITLES = ("run", "what differs", "entry", "accuracy", _SPEED.title.replace(" ", "\n"))


@dataclass(frozen=True, slots=True)
class Point:
    """A run of a group. `summary` is `None` where it is not finished, and `entries` are then the
    names of its entries."""

    run_id: str
    spec: RunSpec
    environment: Environment
    summary: Summary | None
    entries: tuple[str, ...] = ()


class GroupJson(Record):
    """What `harness show GROUP --json` prints, and `harness run` of a curve: the finished runs, and
    the curve, or the load curve, that they are the points of, if they are."""

    group: str
    run_ids: list[str]
    summaries: list[RunJson]
    curve: Curve | None
    load: LoadCurve | None


def group_answer(
    name: str,
    points: Sequence[Point],
    curve: Curve | None = None,
    load: LoadCurve | None = None,
) -> Answer:
    """CSV has a row for each entry of each finished run; of a curve, for each entry and baseline of
    each point; of a load curve, for each entry of each point."""
    finished = [
        run_json(point.spec, point.summary, Beside([point.environment]))
        for point in points
        if point.summary
    ]
    data = GroupJson(
        group=name,
        run_ids=[point.run_id for point in points],
        summaries=finished,
        curve=curve,
        load=load,
    ).model_dump(mode="json")
    if curve is not None:
        parts = Group(*describe(curve), _runs(name, curve.run_ids, points))
        return Answer(parts, data, records(name, curve))
    if load is not None:
        parts = Group(*of_load.describe(load), _runs(name, load.run_ids, points))
        return Answer(parts, data, of_load.records(name, load))
    rows = [
        record
        for point in points
        if point.summary
        for record in entry_records(point.spec, point.summary, Beside([point.environment]))
    ]
    return Answer(group_table(name, points), data, rows, entry_columns())


def _runs(name: str, run_ids: Sequence[str], points: Sequence[Point]) -> RenderableType:
    """Of a curve whose points are all there, the table would say it twice."""
    if len(run_ids) < len(points):
        return group_table(name, points)
    return lines(
        f"Group {name}, its runs in this order: {', '.join(run_ids)}",
        f"All figures of one: harness show {run_ids[-1]}",
    )


def group_table(name: str, points: Sequence[Point]) -> Group:
    """A row for each entry of each run, in the order given, and where to read on."""
    every = [point.spec.model_dump() for point in points]
    differing = [key for key in every[0] if any(spec[key] != every[0][key] for spec in every)]
    rows = (row for point in points for row in _rows(point, differing))
    count = f"{len(points):,} {'run' if len(points) == 1 else 'runs'}"
    return Group(
        lines(f"Group {name}: {count}"),
        "",
        simple_table(_TITLES, rows, numbers=_TITLES[-1:]),
        "",
        lines(f"All figures of one: harness show {points[-1].run_id}"),
    )


def _rows(point: Point, differing: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """The run and what differs stand in its first row."""
    fields = "\n".join(f"{key} {brief(getattr(point.spec, key))}" for key in differing)
    begin = point.run_id, fields or NOTHING
    if point.summary is None:
        yield *begin, "\n".join(point.entries), "unfinished", NOTHING
        return
    for run in point.summary.runs:
        yield *begin, _name(run), headline_share(run), number(_SPEED.figure(run))
        begin = "", ""


def _name(run: RunSummary) -> str:
    return f"{run.entry}\n{MOCK_LABEL}" if is_mock(run) else run.entry
