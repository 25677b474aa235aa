"""How engines serve several prompts at once: the tables of a load curve, and of one run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import compress, zip_longest
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from harness.bench.rows import LoadRow
from harness.comparison.load import EntryLoad, LoadCurve, LoadPoint
from harness.report.figures import MOCK_LABEL
from harness.report.formats import flat
from harness.report.table import Sheet, simple_table
from harness.report.text import NOTHING, lines, measured, number
from harness.summary import Load, Tail

_LOUD = "bold reverse"
_QUANTILES = ("p50", "p95", "p99")
_REQUEST = (
    "request_time_to_first_token_ms",
    "request_time_per_output_token_ms",
    "request_seconds",
)
_ENGINE = ("time_to_first_token_ms", "time_per_output_token_ms", "batch_seconds")
CLIENT_CLOCK = "Times are the client's, from when a request was sent."
_FACTORS = dict.fromkeys((*_REQUEST, *_ENGINE), 1.0) | {_REQUEST[-1]: 1e3, _ENGINE[-1]: 1e3}
"""From the unit of the figure to milliseconds."""
_CLOCKS: Mapping[tuple[str, ...], str] = {
    _REQUEST: CLIENT_CLOCK,
    _ENGINE: "Times are the engine's own, from when it began the batch with the prompt; the last "
    "is that of the whole batch.",
}
_TAIL_TITLES = (
    "",
    "",
    *(
        f"{title}\n(95 % interval)"
        for title in ("ms to first\ntoken", "ms per token", "ms in total")
    ),
)
_RATES = (
    "in\nflight",
    "requests/s",
    "output tok/s",
    "prefill\ntok/s",
    "computed /\nminimum",
    "errors",
    "accuracy",
)


def load_table(loads: Sequence[tuple[str, Load]]) -> Sheet:
    """The times of each, by quantile: the client's, or the engine's own."""
    rows = [row for name, load in loads for row in _tails(name, load, _names(load))]
    return simple_table(_TAIL_TITLES, rows)


def request_times(rows: Sequence[tuple[str, LoadRow]]) -> Sheet:
    """The same of the rows of a bench."""
    every = [row for name, one in rows for row in _tails(name, one, _REQUEST)]
    return simple_table(_TAIL_TITLES, every)


def _tails(name: str, load: Load | LoadRow, names: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """A row for each quantile, with a line of the name in each."""
    tails: list[Tail | None] = [getattr(load, one) for one in names]
    rows = zip_longest(_QUANTILES, name.split("\n"), fillvalue="")
    for quantile, line in rows if any(tails) else ():
        cells = (
            NOTHING if one is None else measured(getattr(one, quantile), _FACTORS[of])
            for of, one in zip(names, tails, strict=True)
        )
        yield line, quantile, *cells


def _names(load: Load) -> tuple[str, ...]:
    return _REQUEST if any(getattr(load, name) for name in _REQUEST) else _ENGINE


def describe(curve: LoadCurve) -> Iterator[RenderableType]:
    """What people read."""
    for one in curve.entries:
        title = lines(f"{one.entry}, {one.model}: the same prompts at each concurrency")
        title.stylize("bold")
        yield title.append(" ").append(MOCK_LABEL, style=_LOUD) if one.is_mock else title
        yield Text()
        yield _rates_table(one.points)
        yield Text()
        loads = ((f"{point.concurrency:,}", point.load) for point in one.points)
        yield load_table([(name, load) for name, load in loads if load])
        yield lines("", *_remarks(one))
        yield Text()


def _rates_table(points: Sequence[LoadPoint]) -> Sheet:
    """Without the columns in which nothing is known."""
    rows = list(map(_rates, points))
    said = [any(row[column] != NOTHING for row in rows) for column in range(len(_RATES))]
    titles = list(compress(_RATES, said))
    return simple_table(titles, [tuple(compress(row, said)) for row in rows], numbers=titles)


def _rates(point: LoadPoint) -> tuple[str, ...]:
    load, computed, unique = point.load, point.computed_tokens, point.unique_tokens
    return (
        f"{point.concurrency:,}",
        measured(load.requests_per_second if load else None),
        measured(load.output_tokens_per_second if load else None),
        number(point.prefill_tokens_per_second),
        f"{computed / unique:.2f}" if computed is not None and unique else NOTHING,
        f"{load.failed:,}" if load else NOTHING,
        f"{point.accuracy.value:.2f}" if point.accuracy else NOTHING,
    )


def _remarks(one: EntryLoad) -> Iterator[str]:
    if not all(point.same_prompts for point in one.points):
        yield "WARNING: its prompts were not the same at every point: times may differ by that."
    for point in one.points:
        if point.load and 0 < point.load.in_flight < point.concurrency:
            yield (
                f"Concurrency {point.concurrency:,}: at most {point.load.in_flight:,} prompts were "
                "in flight."
            )
    if any(point.load and point.load.is_cold for point in one.points):
        yield "Cold: no request used what was computed before it."
    yield from dict.fromkeys(_CLOCKS[_names(point.load)] for point in one.points if point.load)


def records(group: str, curve: LoadCurve) -> list[dict[str, Any]]:
    """The rows of CSV: of each run its entries."""
    return [
        {
            "group": group,
            "entry": one.entry,
            "backend": one.backend,
            "model": one.model,
            "mock": one.is_mock,
            **flat(LoadPoint, one.points[place]),
        }
        for place in range(len(curve.run_ids))
        for one in curve.entries
    ]
