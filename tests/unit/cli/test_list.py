from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer

from harness.cli.list import ListedRun, as_cells, as_json, as_records, list_runs, read_rows
from harness.cli.options import Format
from harness.report.formats import JSON_VERSION
from harness.spec import RunSpec, entries_of
from tests.unit.cli.conftest import Shelf
from tests.unit.report.conftest import RUN, Sample
from tests.unit.store.made import add_run
from tests.unit.store.test_imports import ONE

SPEC = RunSpec(backend=("mock", "llama-cpp"), voters=2, queries=8, decoding="score")
CREATED = "2026-01-02T03:04:05+00:00"


def listed(shelf: Shelf, capsys: pytest.CaptureFixture[str]) -> dict[str, list[dict[str, Any]]]:
    list_runs(shelf.folder, json=True)
    found: dict[str, list[dict[str, Any]]] = json.loads(capsys.readouterr().out)
    return found


def test_csv_without_a_run_has_its_columns(
    shelf: Shelf, sample: Sample, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    list_runs(tmp_path / "none", format_=Format.CSV)
    none = capsys.readouterr().out
    shelf.add(sample.run())
    list_runs(shelf.folder, format_=Format.CSV)
    assert none == capsys.readouterr().out.splitlines(keepends=True)[0]
    assert none.startswith("run_id,created,")


def test_unfinished_run_is_listed_with_what_it_asked(
    shelf: Shelf, sample: Sample, capsys: pytest.CaptureFixture[str]
) -> None:
    run_id = shelf.add(
        sample.mock(), sample.run(), finished=False, voters=2, queries=8, decoding="score"
    )
    [found] = listed(shelf, capsys)["runs"]
    assert found.pop("created").startswith("20")
    assert found == {
        "run_id": run_id,
        "name": None,
        "group": None,
        "state": "unfinished",
        "backends": ["mock", "llama-cpp"],
        "models": ["smollm2-135m"],
        "data": "digits",
        "voters": 2,
        "queries": 8,
        "decoding": "score",
        "accuracy": {},
    }
    [row] = read_rows(shelf.folder)[0]
    run, model, size, votes = as_cells(row)
    assert run.startswith(f"{run_id}\n20")
    assert model == "smollm2-135m\ndigits, score"
    assert size == "2 x\n8"
    assert votes == "mock, llama-cpp: unfinished"


def test_entries_of_an_unfinished_run_have_their_stored_names(
    shelf: Shelf, sample: Sample, capsys: pytest.CaptureFixture[str]
) -> None:
    """`~` in place of a home folder would make `mock@m` of the first."""
    models = ("/root/m.gguf", "/elsewhere/m.gguf")
    names = [one.name for one in entries_of(RunSpec(backend=("mock",), model=models))]
    entries = [
        sample.run(entry=name, backend="mock", model=model)
        for name, model in zip(names, models, strict=True)
    ]
    shelf.add(*entries, finished=False, backend=("mock",), model=models)
    list_runs(shelf.folder, format_=Format.CSV)
    rows = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert [row["entry"] for row in rows] == names == ["mock@root-m", "mock@elsewhere-m"]
    assert [row["model"] for row in rows] == ["~/m.gguf", "/elsewhere/m.gguf"]


def test_a_finished_run_has_as_many_queries_as_there_were() -> None:
    done = ListedRun("a", CREATED, "done", None, RunSpec(queries=100), (RUN,))
    assert done.queries == RUN.accuracy.queries == as_json(done)["queries"]
    assert as_cells(done)[2] == "7 x\n8"


def test_entries_go_by_their_names() -> None:
    entries: dict[str, Any] = {name: {"backend": "mock", "model": name} for name in ("a", "b")}
    runs = tuple(RUN.model_copy(update={"entry": name, "backend": "mock"}) for name in entries)
    listed = tuple((name, "mock", name) for name in entries)
    row = ListedRun("a", CREATED, "done", None, RunSpec(entries=entries), runs, entries=listed)
    assert as_json(row)["backends"] == ["mock"]
    assert as_json(row)["models"] == ["a", "b"]
    assert [(one["entry"], one["model"]) for one in as_records(row)] == [("a", "a"), ("b", "b")]
    assert list(as_json(row)["accuracy"]) == ["a", "b"]
    assert as_cells(row)[1].startswith("a, b\n")
    assert as_cells(row)[3] == "a 0.63 (0.53 to 0.73)\nb 0.63 (0.53 to 0.73)"


def test_a_folder_without_runs_is_an_empty_list(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert read_rows(tmp_path / "nowhere") == ([], [], [])
    list_runs(tmp_path, json=True)
    nothing: dict[str, list[object]] = {"runs": [], "groups": [], "imports": []}
    out, said = capsys.readouterr()
    assert (json.loads(out), said) == ({"schema_version": JSON_VERSION, **nothing}, "")
    list_runs(tmp_path)
    assert "holds no runs yet. Begin one with `harness run`." in words(capsys.readouterr().out)
    assert list(tmp_path.iterdir()) == []


def words(text: str) -> str:
    return " ".join(text.split())


def test_a_group_is_one_row_where_its_newest_run_stands(
    shelf: Shelf, sample: Sample, capsys: pytest.CaptureFixture[str]
) -> None:
    alone = shelf.add(sample.run())
    points = [shelf.add(sample.mock(), group="curve", voters=n) for n in (1, 2)]
    newest = shelf.add(sample.run())
    points.append(shelf.add(sample.mock(), finished=False, group="curve", voters=3))
    found = listed(shelf, capsys)
    assert found["groups"] == [{"group": "curve", "run_ids": points[::-1]}]
    assert [one["run_id"] for one in found["runs"]] == [*points[::-1], newest, alone]
    assert [one["group"] for one in found["runs"]] == ["curve"] * 3 + [None] * 2
    cells = as_cells(read_rows(shelf.folder)[0][0])
    assert cells[0].startswith("curve\n3 runs, newest\n20")
    assert cells[1:] == ["smollm2-135m\ndigits, free", "", "mock\nMOCK"]


def test_imports_are_listed_behind_the_runs(
    shelf: Shelf, sample: Sample, capsys: pytest.CaptureFixture[str]
) -> None:
    shelf.add(sample.run())
    shelf.store.save_imports([ONE])
    found = listed(shelf, capsys)
    assert [len(found[name]) for name in ("runs", "groups", "imports")] == [1, 0, 1]
    list_runs(shelf.folder)
    assert "Imported from other tools:" in capsys.readouterr().out


def test_a_damaged_import_is_named_and_does_not_hide_the_others(
    shelf: Shelf, sample: Sample, capsys: pytest.CaptureFixture[str]
) -> None:
    shelf.add(sample.run())
    shelf.store.save_imports([ONE, replace(ONE, sha256="b" * 64)])
    shelf.damage_import(f"import-{'b' * 10}")
    with pytest.raises(typer.Exit) as ended:
        list_runs(shelf.folder, json=True)
    out, said = capsys.readouterr()
    assert ended.value.exit_code == 1
    assert [len(json.loads(out)[name]) for name in ("runs", "imports")] == [1, 1]
    assert f"import-{'b' * 10}" in said


def test_unreadable_runs_are_named_and_do_not_hide_the_others(
    shelf: Shelf, sample: Sample, capsys: pytest.CaptureFixture[str]
) -> None:
    good, newer, damaged, member = (
        shelf.add(sample.run()),
        shelf.add(sample.run()),
        shelf.add(sample.run()),
        shelf.add(sample.run(), group="curve"),
    )
    shelf.make_newer(newer)
    shelf.make_newer(member)
    shelf.damage(damaged)
    with pytest.raises(typer.Exit) as ended:
        list_runs(shelf.folder, json=True)
    out, said = capsys.readouterr()
    assert ended.value.exit_code == 1
    states = {one["run_id"]: one["state"] for one in json.loads(out)["runs"]}
    assert states == {
        good: "done",
        newer: "unreadable",
        damaged: "unreadable",
        member: "unreadable",
    }
    for run_id in (newer, member):
        assert f"error: run {run_id} was written by a newer version of the harness" in said
    assert f"error: run {damaged} cannot be read: " in said
    with pytest.raises(typer.Exit):
        list_runs(shelf.folder)
    assert capsys.readouterr().out.count("unreadable") == 2


def test_a_name_stands_above_the_id_and_in_json(
    shelf: Shelf, capsys: pytest.CaptureFixture[str]
) -> None:
    run_id = add_run(shelf.store, name="mine")
    list_runs(results=shelf.folder)
    lines = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert lines[lines.index("mine") + 1] == run_id
    list_runs(results=shelf.folder, format_=Format.CSV)
    assert ",mine," in capsys.readouterr().out


def test_of_long_paths_the_ends_are_listed(
    shelf: Shelf, sample: Sample, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = "/somewhere/far/down/a/path/that/is/wider/than/a/terminal/of/eighty/columns"
    entry = sample.run(model=f"{folder}/mine.gguf")
    shelf.add(entry, data=f"{folder}/reviews.csv", model=(entry.model,))
    list_runs(shelf.folder)
    shown = capsys.readouterr().out
    assert "  mine.gguf " in shown
    assert "  reviews.csv, free " in shown
    assert "somewhere" not in shown
