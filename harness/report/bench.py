"""The rows of `harness bench`.

Names are llama-bench's where it has one: `n_prompt`, `n_gen`, `n_depth`, `n_threads`, `test_time`,
`avg_ns`, `stddev_ns`, `avg_ts`, `stddev_ts`, `samples_ns`, `samples_ts`. There is at least one row.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType

from harness.bench.rows import LoadRow, Row, deviation, nanoseconds
from harness.record import Measured, Record
from harness.report.figures import MOCK_LABEL
from harness.report.formats import Answer, flat
from harness.report.load import CLIENT_CLOCK, request_times
from harness.report.table import simple_table
from harness.report.text import NOTHING, lines, measured, number, span
from harness.summary import Tail

_TITLES = ("entry", "test", "batch", "evaluated", "ms", "t/s")
_LOAD_TITLES = ("test", "requests/s", "output tok/s", "requests", "cached\ntokens", "errors")
_CACHED = "cached: the same prompts again."
_OF_LOAD: Mapping[str, type[Record]] = {
    "requests_per_second": Measured,
    "output_tokens_per_second": Measured,
    "request_time_to_first_token_ms": Tail,
    "request_time_per_output_token_ms": Tail,
    "request_seconds": Tail,
}
_NUMBERS = ("batch", "evaluated", "ms", "t/s")


def bench_answer(timed: Sequence[Row | LoadRow]) -> Answer:
    """What is the same for all rows of an entry stands below the table. JSON has every sample.

    Rows of requests have tables of their own, and stand under `load` in JSON; in CSV they come
    last, with columns of their own.
    """
    rows = [row for row in timed if isinstance(row, Row)]
    loads = [row for row in timed if isinstance(row, LoadRow)]
    parts: list[RenderableType] = []
    if rows:
        table = simple_table(_TITLES, map(_cells, rows), numbers=_NUMBERS)
        parts += [table, "", lines(*_engines(rows), *_notes(rows))]
    if loads:
        parts += [*([""] if rows else []), *_load_parts(loads)]
    data = {
        "rows": [{**_figures(row), **_samples(row)} for row in rows],
        "load": [_load_figures(row) for row in loads],
    }
    return Answer(Group(*parts), data, [*map(_figures, rows), *map(_load_record, loads)])


def _load_parts(loads: Sequence[LoadRow]) -> Iterator[RenderableType]:
    names = [f"{_name(row)}\n{row.test.name}\n{row.concurrency:,} in flight" for row in loads]
    rates = (
        (
            name,
            measured(row.requests_per_second),
            measured(row.output_tokens_per_second),
            f"{row.requests:,}",
            NOTHING if row.cached_tokens is None else f"{row.cached_tokens:,}",
            f"{row.failed:,}",
        )
        for name, row in zip(names, loads, strict=True)
    )
    yield simple_table(_LOAD_TITLES, rates, numbers=_LOAD_TITLES[3:])
    yield ""
    yield request_times([(name, row) for name, row in zip(names, loads, strict=True)])
    yield ""
    yield lines(*_engines(loads), CLIENT_CLOCK, _CACHED)


def _load_figures(row: LoadRow) -> dict[str, Any]:
    measured_ = {name: getattr(row, name) for name in _OF_LOAD}
    return {
        **_load_counts(row),
        **{name: found and found.model_dump() for name, found in measured_.items()},
    }


def _load_record(row: LoadRow) -> dict[str, Any]:
    """The same for CSV: all rows have the columns of what one of them lacks."""
    record = _load_counts(row)
    for name, kind in _OF_LOAD.items():
        record |= flat(kind, getattr(row, name), f"{name}.")
    return record


def _load_counts(row: LoadRow) -> dict[str, Any]:
    return {
        **_identity(row),
        **_test(row),
        "cached": row.test.is_cached,
        "concurrency": row.concurrency,
        "test_time": row.begun,
        "requests": row.requests,
        "failed": row.failed,
        "seconds": row.seconds,
        "cached_tokens": row.cached_tokens,
    }


def _identity(row: Row | LoadRow) -> dict[str, Any]:
    return {
        "entry": row.entry,
        "backend": row.backend,
        "mock": row.info.is_mock,
        "engine": row.info.engine,
        "engine_version": row.info.engine_version,
        "model": row.info.model,
    }


def _test(row: Row | LoadRow) -> dict[str, Any]:
    return {
        "test": row.test.name,
        "n_prompt": row.test.prompt_tokens,
        "n_gen": row.test.generate_tokens,
        "n_depth": row.test.depth,
    }


def _name(row: Row | LoadRow) -> str:
    return f"{row.entry} {MOCK_LABEL}" if row.info.is_mock else row.entry


def _figures(row: Row) -> dict[str, Any]:
    """Numbers of times and speeds are over the repetitions, the warm-up left out."""
    return {
        **_identity(row),
        "weights": row.info.weights,
        "device": row.info.device,
        "n_threads": row.info.threads,
        **_test(row),
        "batch": row.test.batch,
        "cached": row.test.is_cached,
        # `median_low`: a whole number of tokens, and one that occurred.
        "evaluated": statistics.median_low(sample.evaluated for sample in row.samples),
        "test_time": row.begun,
        "avg_ns": round(statistics.fmean(row.nanoseconds)),
        "stddev_ns": round(deviation(row.nanoseconds)),
        "avg_ts": statistics.fmean(row.speeds),
        "stddev_ts": deviation(row.speeds),
    }


def _samples(row: Row) -> dict[str, Any]:
    return {
        "model_sha256": row.model_sha256,
        "warmup_ns": nanoseconds(row.warm_up),
        "warmup_ts": row.warm_up.tokens_per_second,
        "samples_ns": row.nanoseconds,
        "samples_ts": row.speeds,
        "samples_evaluated": [sample.evaluated for sample in row.samples],
        "peak_rss_mib": row.peak_rss_mib,
        "peak_gpu_mib": row.peak_gpu_mib,
    }


def _cells(row: Row) -> tuple[str, ...]:
    return (
        _name(row),
        row.test.name,
        str(row.test.batch),
        span([sample.evaluated for sample in row.samples]),
        number(statistics.fmean(row.nanoseconds) / 1e6),
        f"{statistics.fmean(row.speeds):.2f} ± {deviation(row.speeds):.2f}",
    )


def _engines(rows: Iterable[Row | LoadRow]) -> Iterable[str]:
    """A line an entry."""
    return dict.fromkeys(
        f"{row.entry}: {row.info.engine_version}; {row.info.model}, {row.info.weights}; "
        f"device {row.info.device}, threads {row.info.threads}"
        for row in rows
    )


def _notes(rows: Sequence[Row]) -> list[str]:
    """What a reader has to know of these rows."""
    counts = [len(row.samples) for row in rows]
    said = [
        f"t/s: mean ± standard deviation of {span(counts)} repetitions, after one as a warm-up."
    ]
    if any(row.test.is_cached for row in rows):
        said.append("cached: the same prompts again; t/s counts their tokens, evaluated or not.")
    said += [
        f"{row.entry}, {row.test.name}: more tokens were evaluated than the test has, and count; "
        "the engine had not stored the whole depth, or shares whole blocks only."
        for row in rows
        if _evaluated_more(row)
    ]
    return said


def _evaluated_more(row: Row) -> bool:
    wanted = row.test.wanted_tokens
    return any(sample.evaluated > wanted for sample in row.samples)
