"""Replies as a table for other programs: Parquet, CSV or JSON Lines, a row for each."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from enum import StrEnum
from itertools import islice
from math import isfinite
from typing import IO, Any

from harness.report.formats import csv_cell
from harness.spec import BaselineSpec
from harness.store.replies import PREDICTION_COLUMNS, as_row, columns_of, predictions_of
from harness.store.runs import StoredRun

_ROWS_AT_ONCE = 5000  # so many are in memory, and in a row group of Parquet


class RowFormat(StrEnum):
    PARQUET = "parquet"
    CSV = "csv"
    JSONL = "jsonl"


def write_rows(runs: Sequence[StoredRun], format_: RowFormat, file: IO[bytes]) -> int:
    """Writes the replies of these runs, of baselines the predictions, and returns how many. Columns
    are those of all of them."""
    columns: dict[str, type] = {}
    for run in runs:
        columns |= PREDICTION_COLUMNS if _is_of_baselines(run) else columns_of(run.classes)
    rows = (row for run in runs for row in _rows_of(run))
    chunks = iter(lambda: list(islice(rows, _ROWS_AT_ONCE)), [])
    write = {RowFormat.PARQUET: _parquet, RowFormat.CSV: _csv, RowFormat.JSONL: _jsonl}[format_]
    return write(columns, chunks, file)


def _is_of_baselines(run: StoredRun) -> bool:
    return isinstance(run.any_spec, BaselineSpec)


def _rows_of(run: StoredRun) -> Iterator[dict[str, Any]]:
    if not _is_of_baselines(run):
        return map(as_row, run.replies())
    _ = run.summary  # says so where none was stored
    return (asdict(one) for side in run.fitted.values() for one in predictions_of(side))


def _parquet(
    columns: Mapping[str, type], chunks: Iterator[list[dict[str, Any]]], file: IO[bytes]
) -> int:
    import pyarrow as pa
    from pyarrow import parquet

    types = {str: pa.string(), int: pa.int64(), float: pa.float64()}
    schema = pa.schema([(name, types[kind]) for name, kind in columns.items()])
    count = 0
    with parquet.ParquetWriter(file, schema) as writer:
        for rows in chunks:
            writer.write_batch(pa.RecordBatch.from_pylist(rows, schema=schema))
            count += len(rows)
    return count


def _csv(
    columns: Mapping[str, type], chunks: Iterator[list[dict[str, Any]]], file: IO[bytes]
) -> int:
    text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
    writer, count = csv.DictWriter(text, list(columns), lineterminator="\n"), 0
    writer.writeheader()
    for rows in chunks:
        writer.writerows({name: csv_cell(value) for name, value in row.items()} for row in rows)
        count += len(rows)
    text.detach()
    return count


def _jsonl(
    columns: Mapping[str, type], chunks: Iterator[list[dict[str, Any]]], file: IO[bytes]
) -> int:
    count = 0
    for rows in chunks:
        for row in rows:
            values = {name: _json_value(row.get(name)) for name in columns}
            file.write(f"{json.dumps(values)}\n".encode())
        count += len(rows)
    return count


def _json_value(value: object) -> object:
    """JSON has no infinity: that of a label which the engine excludes is null."""
    return None if isinstance(value, float) and not isfinite(value) else value
