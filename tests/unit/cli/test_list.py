from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness.cli.list import as_cells, as_json, list_runs, read_entries, read_entry
from harness.spec import RunSpec
from harness.store.schema import RunRow
from tests.unit.report.conftest import RUN

SPEC = RunSpec(backend=("mock", "llama-cpp"), voters=2, queries=8, decoding="score")
CREATED = "2026-01-02T03:04:05+00:00"


def test_unfinished_run_is_listed_with_what_it_asked() -> None:
    entry = read_entry(RunRow("a", CREATED, SPEC.model_dump_json(), "{}", None))
    assert as_json(entry) == {
        "kind": "run",
        "run_id": "a",
        "created": CREATED,
        "state": "unfinished",
        "backends": ["mock", "llama-cpp"],
        "model": "smollm2-135m",
        "data": "digits",
        "voters": 2,
        "queries": 8,
        "decoding": "score",
        "accuracy": {},
    }
    run, model, size, votes = as_cells(entry)
    assert run.startswith("a\n2026-01-0")
    assert model == "smollm2-135m\ndigits, score"
    assert size == "2 x\n8"
    assert votes == "mock, llama-cpp: unfinished"


def test_a_finished_run_has_as_many_queries_as_there_were() -> None:
    asked = read_entry(RunRow("a", CREATED, SPEC.model_dump_json(), "{}", None))
    done = replace(asked, state="done", spec=RunSpec(queries=100), runs=(RUN,))
    assert done.queries == RUN.accuracy.queries == as_json(done)["queries"]
    assert as_cells(done)[2] == "7 x\n8"


def test_a_folder_without_runs_is_an_empty_list(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert read_entries(tmp_path / "nowhere") == []
    list_runs(tmp_path, json=True)
    assert capsys.readouterr() == ("[]\n", "")
    list_runs(tmp_path)
    assert "holds no runs yet. Begin one with `harness run`." in words(capsys.readouterr().out)
    assert list(tmp_path.iterdir()) == []


def words(text: str) -> str:
    return " ".join(text.split())


def test_unreadable_run_does_not_hide_the_others() -> None:
    entry = read_entry(RunRow("a", CREATED, '{"colour": "red"}', "{}", "{}"))
    listed = as_json(entry)
    assert (listed["state"], listed["backends"], listed["model"]) == ("unreadable", [], None)
    assert as_cells(entry)[1:] == ["", "", "unreadable"]
