"""A results folder whose runs a test puts there by hand."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from harness.spec import RunSpec
from harness.store.schema import RECORDS_VERSION, EntryRow
from harness.store.store import FILE_NAME, Store
from harness.summary import RunSummary
from tests.unit.comparison.made import ENVIRONMENT
from tests.unit.report.conftest import Sample


@dataclass(frozen=True, slots=True)
class Shelf:
    store: Store
    folder: Path

    def add(
        self, *runs: RunSummary, finished: bool = True, group: str | None = None, **spec: Any
    ) -> str:
        """A run with these entries, over their backends; returns its id."""
        spec = {"backend": tuple(run.backend for run in runs), **spec}
        run_id = self.store.create_run(
            RunSpec(**spec).model_dump_json(),
            ENVIRONMENT.model_dump_json(),
            [EntryRow(run.entry, run.backend, run.model, "v") for run in runs],
            "d" * 64,
            group,
        )
        if finished:
            summary = Sample().summary(*runs, run_id=run_id, group=group)
            self.store.finish_run(run_id, summary.model_dump_json(), summary.baselines)
        return run_id

    def make_newer(self, run_id: str) -> None:
        """As if a later version of the harness had written the run."""
        self._set(run_id, "records_version", RECORDS_VERSION + 1)

    def damage(self, run_id: str) -> None:
        self._set(run_id, "summary", '{"colour": "red"}')

    def damage_import(self, import_id: str) -> None:
        self._execute("UPDATE imports SET figures = '}' WHERE import_id = ?", import_id)

    def _set(self, run_id: str, column: str, value: object) -> None:
        self._execute(f"UPDATE runs SET {column} = ? WHERE run_id = ?", value, run_id)

    def _execute(self, statement: str, *values: object) -> None:
        with closing(sqlite3.connect(self.folder / FILE_NAME)) as connection:
            connection.execute(statement, values)
            connection.commit()


@pytest.fixture
def shelf(tmp_path: Path) -> Iterator[Shelf]:
    with Store(tmp_path / "results") as store:
        yield Shelf(store, tmp_path / "results")


@pytest.fixture
def sample() -> Sample:
    return Sample()
