from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from harness.cli.export import ExportFormat, export
from harness.cli.import_ import import_files
from harness.cli.show import show
from harness.errors import StoreError, UsageError
from harness.store.store import Store
from tests.unit.store.made import add_run


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "results") as opened:
        yield opened


@pytest.fixture
def results(store: Store) -> Path:
    return store.path.parent


def test_the_name_of_the_file_says_the_format(
    store: Store, results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        add_run(store, group="curve")
    file = tmp_path / "rows.parquet"
    export("curve", output=str(file), results=results)
    assert len(pd.read_parquet(file)) == 10
    assert f"{file}: 10 rows." in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["results", "rows.parquet"]


@pytest.mark.parametrize("output", [None, "rows.xlsx", "rows"])
def test_a_format_that_is_not_known_is_named(output: str | None, results: Path) -> None:
    with pytest.raises(UsageError) as caught:
        export("latest", output=output, results=results)
    assert "parquet, csv, jsonl, zip" in caught.value.remedy


def test_a_zip_is_no_text(store: Store, results: Path) -> None:
    add_run(store)
    with pytest.raises(UsageError, match="zip is written to a file"):
        export("latest", format_=ExportFormat.ZIP, results=results)


def test_what_stands_in_a_file_stays_where_a_run_cannot_be_read(
    store: Store, results: Path, tmp_path: Path
) -> None:
    add_run(store)
    file = tmp_path / "rows.csv"
    file.write_text("mine")
    with store._write() as connection:
        connection.exec_driver_sql("UPDATE cells SET token_ids = '}'")
    with pytest.raises(StoreError, match="token_ids"):
        export("latest", output=str(file), results=results)
    assert file.read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["results", "rows.csv"]


def test_a_run_that_was_passed_on_shows_as_at_home(
    store: Store, results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_id = add_run(store, name="mine")
    show("mine", results=results, json=True)
    at_home = capsys.readouterr().out
    export(run_id, output=str(tmp_path / "run.zip"), results=results)
    there = tmp_path / "there"
    import_files([tmp_path / "run.zip"], results=there, json=True)
    [listed] = json.loads(capsys.readouterr().out)["runs"]
    assert (listed["run_id"], listed["name"]) == (run_id, "mine")
    show("mine", results=there, json=True)
    assert capsys.readouterr().out == at_home
    show("mine", results=there, json=True, recompute=True)
    again = json.loads(capsys.readouterr().out)
    assert again == json.loads(at_home)


def test_an_archive_is_imported_alone(store: Store, results: Path, tmp_path: Path) -> None:
    add_run(store)
    file = tmp_path / "run.zip"
    export("latest", output=str(file), results=results)
    with pytest.raises(UsageError, match="alone"):
        import_files([file, file], results=tmp_path / "there")
