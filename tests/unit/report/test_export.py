from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

import harness.report.export
from harness.report.export import RowFormat, write_rows
from harness.store.runs import StoredRun
from harness.store.store import Store
from tests.unit.store.made import REPLIES, add_run


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path) as opened:
        yield opened


def exported(format_: RowFormat, *runs: StoredRun) -> io.BytesIO:
    file = io.BytesIO()
    assert write_rows(runs, format_, file) == sum(len(list(run.replies())) for run in runs)
    return io.BytesIO(file.getvalue())


def stored(store: Store) -> StoredRun:
    return StoredRun(store, store.run(add_run(store)))


def test_parquet_has_the_rows_of_the_frame(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness.report.export, "_ROWS_AT_ONCE", 2)
    run = stored(store)
    table = pd.read_parquet(exported(RowFormat.PARQUET, run))
    frame = run.frame()
    assert list(table.columns) == list(frame.columns)
    assert list(table.text) == [*REPLIES, ""]
    assert list(table.verdict[:4]) == ["right", "wrong", "unparsed", "unparsed"]
    assert list(table.logprob_REAL) == list(frame.logprob_REAL) == [-1.5] * 5
    assert table.token_sha256.notna().all()


def test_csv_holds_lines_and_no_commands_of_terminals(store: Store) -> None:
    run = stored(store)
    rows = list(csv.DictReader(io.TextIOWrapper(exported(RowFormat.CSV, run), newline="")))
    assert list(rows[0]) == list(run.frame().columns)
    assert rows[3]["text"] == "\\x1b[31m no\nyes"
    assert (rows[2]["label"], rows[2]["completion_tokens"]) == ("", "2")


def test_json_lines_are_one_object_a_reply(store: Store) -> None:
    run = stored(store)
    rows = [json.loads(line) for line in exported(RowFormat.JSONL, run)]
    assert [row["text"] for row in rows] == [*REPLIES, ""]
    assert list(rows[0]) == list(run.frame().columns)
    assert rows[2]["label"] is None


def test_infinity_is_null_in_json(store: Store) -> None:
    assert harness.report.export._json_value(-math.inf) is None
    assert harness.report.export._json_value(-1.5) == -1.5


def test_several_runs_are_one_table(store: Store) -> None:
    first, second = stored(store), stored(store)
    table = pd.read_parquet(exported(RowFormat.PARQUET, first, second))
    assert list(table.run_id.unique()) == [first.run_id, second.run_id]
