"""How a metric went: of each series a chart, its runs, and where its level changed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from functools import partial
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from harness.comparison.metrics import METRICS
from harness.comparison.records import FieldDifference
from harness.comparison.series import Change, History, Point, Series
from harness.report.chart import Drawing, chart
from harness.report.figures import MOCK_LABEL
from harness.report.formats import Answer, flat
from harness.report.table import Sheet, simple_table
from harness.report.text import NOTHING, brief, lines, number, p_value
from harness.spec import OF_DATA
from harness.stats.change_points import LEAST_RUNS

NEWEST = 20
"""So many runs of a series are in its table, unless all are wanted."""

_TITLES = ("#", "run", "begun", "value", "revision", "engine")
_NUMBERS = ("#", "value")
_CHARTED = 3  # fewer points are seen at once in the table
_DIRTY = "+dirty"
_LOUD = "bold reverse"


def history_answer(history: History, everything: bool) -> Answer:
    """The series. Unless `everything` is wanted, those of fewer than two runs are only counted, and
    the tables hold the `NEWEST` runs. CSV has a row for each run of each series."""
    records = [
        _record(history.metric, place, series, point)
        for place, series in enumerate(history.series, start=1)
        for point in series.points
    ]
    data = history.model_dump(mode="json")
    columns = _record("", 0, None, None).keys()
    return Answer(Group(*_describe(history, everything)), data, records, columns)


def _record(metric: str, place: int, series: Series | None, point: Point | None) -> dict[str, Any]:
    """`change` says how the level changed from this run on, empty where it did not."""
    changes = {change.after: change.outcome.value for change in series.changes} if series else {}
    # The number tells apart series whose entry and model are the same.
    whose = {"series": place, "metric": metric, **flat(Series, series)}
    change = changes.get(point.run_id) if point else None
    return {**whose, **flat(Point, point), "change": change}


def _describe(history: History, everything: bool) -> Iterator[RenderableType]:
    better = "more" if history.more_is_better else "less"
    yield lines(f"{history.metric} ({history.unit}; {better} is better)")
    shown = [one for one in history.series if everything or len(one.points) > 1]
    for one in shown:
        yield Text()
        yield _title(one, history.series)
        if len(one.points) >= _CHARTED:
            yield Drawing(partial(_chart, history, one))
        if one.points:
            yield Text()
            yield _table(history.metric, one.points, None if everything else NEWEST)
        yield lines("", *_sentences(history, one, everything))
    if notes := list(_notes(history, len(history.series) - len(shown))):
        yield lines("", *notes)


def _title(one: Series, every: Sequence[Series]) -> Text:
    """Entry and model, and whatever tells the series from others of the same two."""
    mine = _distinguished_by(one)
    # Among all series, not those that are shown: a title stays the same with `--all`.
    peers = [_distinguished_by(peer) for peer in every if _name(peer) == _name(one)]
    words = (
        f"{name.replace('_', ' ')} {brief(value)}"
        for name, value in mine.items()
        if any(peer.get(name) != value for peer in peers)
    )
    name = ", ".join(_name(one))
    title = lines(": ".join(filter(None, [name, ", ".join(words)])))
    title.stylize("bold")
    return title.append(" ").append(MOCK_LABEL, style=_LOUD) if one.is_mock else title


def _name(one: Series) -> tuple[str, ...]:
    backend = () if one.entry == one.backend else (one.backend,)
    return one.entry, *backend, one.model


def _distinguished_by(one: Series) -> dict[str, Any]:
    # Vectors have no column of texts: that says nothing.
    spec = {k: v for k, v in one.spec.items() if k not in OF_DATA or v is not None}
    return spec | {"data_sha256": one.data_sha256} | one.machine.model_dump()


def _chart(history: History, one: Series, width: int, ascii_only: bool) -> str:
    values = [point.value for point in one.points]
    breaks = [change.place for change in one.changes]
    return chart(values, breaks, history.unit, partial(_figure, history.metric), width, ascii_only)


def _table(metric: str, points: Sequence[Point], newest: int | None) -> Sheet:
    numbered = list(enumerate(points, start=1))
    shown = numbered if newest is None else numbered[-newest:]
    cells = (_cells(metric, place, point) for place, point in shown)
    return simple_table(_TITLES, cells, numbers=_NUMBERS, whole=("run", "begun"))


def _cells(metric: str, place: int, point: Point) -> tuple[str, ...]:
    """The day is a local one."""
    begun = datetime.fromisoformat(point.created).astimezone()
    value, span = _figure(metric, point.value), point.interval
    if span:
        value += f" ({_figure(metric, span.low)} to {_figure(metric, span.high)})"
    revision = _revision(point.git_revision)
    engine = point.engine_version or NOTHING
    run = "\n".join(filter(None, [point.name, point.run_id]))
    return f"{place}", run, f"{begun:%Y-%m-%d}", value, revision, engine


def _figure(metric: str, value: float) -> str:
    return f"{value:.2f}" if METRICS[metric].is_share else number(value)


def _revision(revision: str | None) -> str:
    return NOTHING if revision is None else brief(revision)


def _sentences(history: History, one: Series, everything: bool) -> Iterator[str]:
    """What the table does not say."""
    if not everything and (earlier := len(one.points) - NEWEST) > 0:
        yield f"{_runs(earlier)} before these: --all lists them."
    if one.left_out:
        yield f"Left out: {_runs(one.left_out)} that {history.metric} does not apply to."
    if any((point.git_revision or "").endswith(_DIRTY) for point in one.points):
        yield "A + behind a revision: not all changes were committed."
    if len(one.points) < 2 * LEAST_RUNS:
        yield f"It takes {2 * LEAST_RUNS} runs or more to tell a change of level from noise."
    elif not one.changes:
        yield "No change of level found."
    for change in one.changes:
        yield from _change(history, one, change)


def _change(history: History, series: Series, change: Change) -> Iterator[str]:
    before, after = (_figure(history.metric, v) for v in (change.level_before, change.level_after))
    size = _size(history.metric, change.change)
    yield (
        f"{change.outcome.upper()} from run {change.place + 1} on: "
        f"{before} to {after} {history.unit}{size}, {p_value(change.p_adjusted)}."
    )
    last, first = series.points[change.place - 1 : change.place + 1]
    yield f"  The last before is {_named(last)}, the first after {_named(first)}."
    yield f"  {_explanation(change.differing)}"


def _named(point: Point) -> str:
    called = f"{point.name}, " if point.name else ""
    engine = point.engine_version or NOTHING
    return f"{called}{point.run_id} ({_revision(point.git_revision)}, {engine})"


def _size(metric: str, change: float | None) -> str:
    if change is None:
        return ""
    return f" ({change:+.2f})" if METRICS[metric].is_share else f" (x {change:.3g})"


def _explanation(differing: Iterable[FieldDifference]) -> str:
    fields = [f"{one.field} {brief(one.first)} / {brief(one.other)}" for one in differing]
    if not fields:
        return "Nothing that is stored differs between them."
    return f"Between them differ: {', '.join(fields)}."


def _notes(history: History, short: int) -> Iterator[str]:
    if not history.series:
        yield "There is no finished run yet. Begin one with `harness run`."
    if short:
        yield f"Left out: {short:,} series of fewer than two runs; --all shows them."
    if history.unreadable:
        yield f"Left out: {_runs(len(history.unreadable))} that cannot be read."


def _runs(count: int) -> str:
    return f"{count:,} {'run' if count == 1 else 'runs'}"
