from __future__ import annotations

from pathlib import Path

import pytest

from harness.cli.kept import open_store, read_kept, read_spec, read_summary, resume_command
from harness.errors import StoreError
from harness.spec import RunSpec
from harness.store.schema import RunRow
from harness.store.store import Store
from harness.summary import Summary

RESULTS = Path("results")
SUMMARY = Summary(
    run_id="a", created="2026-01-02", wall_seconds=None, harness_seconds=None, runs=[]
)


def row(summary: str | None, spec: str = RunSpec(seed=5).model_dump_json()) -> RunRow:
    return RunRow("a", "2026-01-02T03:04:05+00:00", spec, "{}", summary)


def test_reading_makes_no_store(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="holds no runs") as caught:
        open_store(tmp_path / "nowhere")
    assert "harness run" in caught.value.remedy
    assert list(tmp_path.iterdir()) == []


def test_a_store_that_is_there_is_opened(tmp_path: Path) -> None:
    Store(tmp_path).close()
    with open_store(tmp_path) as store:
        assert store.runs() == []


def test_finished_run_comes_back_as_it_was() -> None:
    kept = read_kept(row(SUMMARY.model_dump_json()), RESULTS)
    assert kept.spec == RunSpec(seed=5)
    assert kept.summary == SUMMARY


def test_unfinished_run_says_how_to_complete_it() -> None:
    with pytest.raises(StoreError, match="a is not finished") as caught:
        read_kept(row(None), RESULTS)
    assert caught.value.remedy == "harness run --resume a"


def test_run_of_another_version_is_no_bug() -> None:
    with pytest.raises(StoreError, match="another version"):
        read_summary(row('{"run_id": "a", "colour": "red"}'))
    with pytest.raises(StoreError, match=r"another version.*colour"):
        read_spec(row(None, spec='{"colour": "red"}'))


def test_resume_command_can_be_pasted() -> None:
    assert resume_command("a", RESULTS) == "harness run --resume a"
    assert resume_command("a", Path("b c")) == "harness run --resume a --results 'b c'"
