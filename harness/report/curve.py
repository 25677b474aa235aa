"""A curve: of each entry a chart, its points beside the baselines, and where it stops rising."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from harness.comparison.curve import BaselineCurve, Curve, CurvePoint, EntryCurve
from harness.record import Estimate
from harness.report.chart import Drawing, Mark, curve_chart
from harness.report.figures import MOCK_LABEL
from harness.report.table import Sheet, simple_table
from harness.report.text import NOTHING, lines, number, p_column, p_value, percent, share

_TITLES = {"shots": "examples", "max_model_len": "tokens of context"}
_LOUD = "bold reverse"


def describe(curve: Curve) -> Iterator[RenderableType]:
    """What people read."""
    for one in curve.entries:
        title = lines(f"{one.entry}, {one.model}: accuracy against {_TITLES[curve.varied]}")
        title.stylize("bold")
        yield title.append(" ").append(MOCK_LABEL, style=_LOUD) if one.is_mock else title
        marks = _marks(curve, one)
        if len(marks) > 1:
            yield Drawing(partial(_chart, curve, one, marks))
        yield Text()
        yield _table(curve, one)
        yield lines("", sentence(curve, one), *_remarks(curve, one))
        yield Text()


def sentence(curve: Curve, one: EntryCurve) -> str:
    """Where the curve stops rising."""
    by = f"on {one.queries:,} queries"
    if one.outcome == "unknown":
        return "It takes three points with verdicts, or more, to say where the curve stops rising."
    if one.outcome == "rises":
        return (
            f"Not shown to stop rising: two or more larger numbers that are no better than a "
            f"smaller one would show it ({by})."
        )
    place = curve.run_ids.index(one.stops_at or "")
    point, after = one.points[place], one.points[place + 1 :]
    stops = "No rise is seen" if place == 0 else "The curve stops rising"
    said = (
        f"{stops} from {_name(curve, point)} {_TITLES[curve.varied]} on: none of the {len(after)} "
        f"larger numbers is better ({p_value(point.better_p or 1.0)}, {by})."
    )
    if one.last is None or one.last.interval is None:
        return said
    low, high = (100 * end for end in (one.last.interval.low, one.last.interval.high))
    return (
        f"{said} With {_name(curve, one.points[-1])}, accuracy is {100 * one.last.change:+.1f} "
        f"points from there (95 % interval {low:+.1f} to {high:+.1f})."
    )


def records(group: str, curve: Curve) -> list[dict[str, Any]]:
    """The rows of CSV: of each run its entries, then its baselines."""
    rows = []
    for place, run_id in enumerate(curve.run_ids):
        first = curve.entries[0].points[place]
        begin = {
            "group": group,
            "run_id": run_id,
            "shots": first.shots,
            "max_model_len": first.max_model_len,
            "examples": first.examples,
        }
        for one in curve.entries:
            point = one.points[place]
            rows.append(
                {
                    **begin,
                    "kind": "entry",
                    "name": one.entry,
                    "model": one.model,
                    "mock": one.is_mock,
                    **_accuracy(point.accuracy),
                    "parse_rate": point.parse_rate,
                    "prefill_tokens_per_second": point.prefill_tokens_per_second,
                    "decode_tokens_per_second": point.decode_tokens_per_second,
                    "peak_rss_mib": point.peak_rss_mib,
                    "peak_gpu_mib": point.peak_gpu_mib,
                    "better_p": point.better_p,
                    "stops": one.stops_at == run_id,
                }
            )
        rows += [
            {**begin, "kind": "baseline", "name": of.baseline, **_accuracy(of.accuracies[place])}
            for of in curve.baselines
        ]
    return rows


def _accuracy(estimate: Estimate | None) -> dict[str, float | None]:
    names = {"accuracy": "value", "accuracy_low": "low", "accuracy_high": "high"}
    return {name: getattr(estimate, end, None) for name, end in names.items()}


def _beside(curve: Curve) -> BaselineCurve | None:
    """The baseline that learns from the examples of each point."""
    return next((one for one in curve.baselines if one.is_of_examples), None)


def _marks(curve: Curve, one: EntryCurve) -> Sequence[Mark]:
    return [
        Mark(
            _name(curve, point),
            point.accuracy.value,
            point.accuracy.low,
            point.accuracy.high,
            beside.value if beside else None,
        )
        for point, beside in zip(one.points, _accuracies(curve, one), strict=True)
        if point.accuracy is not None
    ]


def _accuracies(curve: Curve, one: EntryCurve) -> Sequence[Estimate | None]:
    """Of the baseline beside the entry."""
    baseline = _beside(curve)
    return baseline.accuracies if baseline else [None] * len(one.points)


def _chart(
    curve: Curve, one: EntryCurve, marks: Sequence[Mark], width: int, ascii_only: bool
) -> str:
    stop = curve.run_ids.index(one.stops_at) if one.stops_at else None
    units = _TITLES[curve.varied], "accuracy"
    return curve_chart(marks, stop, units, lambda value: f"{value:.2f}", width, ascii_only)


def _name(curve: Curve, point: CurvePoint) -> str:
    return f"{_examples(point) if curve.varied == 'shots' else format(point.max_model_len, ',')}"


def _examples(point: CurvePoint) -> str:
    return f"{point.examples:,.0f}" if point.examples % 1 == 0 else f"{point.examples:,.1f}"


def _table(curve: Curve, one: EntryCurve) -> Sheet:
    is_long = curve.varied == "max_model_len"
    of_memory = "GPU MiB" if any(point.peak_gpu_mib for point in one.points) else "RSS MiB"
    titles = [
        *(["tokens"] if is_long else []),
        "examples",
        "accuracy",
        "larger\nbetter: p",
        "baseline\n(x)",
        "parsed",
        "prefill\ntok/s",
        f"peak\n{of_memory}",
    ]
    rows = (
        (
            *([f"{point.max_model_len:,}"] if is_long else []),
            _examples(point),
            share(point.accuracy),
            NOTHING if point.better_p is None else p_column(point.better_p),
            f"{beside.value:.2f}" if beside else NOTHING,
            percent(point.parse_rate),
            number(point.prefill_tokens_per_second),
            number(point.peak_gpu_mib or point.peak_rss_mib),
        )
        for point, beside in zip(one.points, _accuracies(curve, one), strict=True)
    )
    numbers = ("tokens", "examples", "parsed", titles[-2], titles[-1])
    return simple_table(titles, rows, numbers=numbers)


def _remarks(curve: Curve, one: EntryCurve) -> Iterator[str]:
    if beside := _beside(curve):
        yield f"x: {beside.baseline}, which learns from what the prompts of the point show."
    others = [of for of in curve.baselines if not of.is_of_examples and of.accuracies[-1]]
    if others:
        said = (f"{of.baseline} {share(of.accuracies[-1])}" for of in others)
        yield f"At every point alike: {', '.join(said)}."
    if any(point.peak_rss_mib or point.peak_gpu_mib for point in one.points):
        yield (
            "The engine was loaded once, for the longest context of all: its memory is the peak "
            "until then."
        )
