"""What `harness show` finds under a name, and what it says where it finds nothing to show."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer

import harness.pipeline.summarise
from harness.cli.options import Format
from harness.cli.show import show
from harness.comparison.metrics import METRICS
from harness.errors import StoreError, UsageError
from harness.scoring.verdicts import Verdict
from harness.store.runs import StoredRun
from harness.summary import Summary
from tests.unit.cli.conftest import Shelf
from tests.unit.comparison.made import ENVIRONMENT
from tests.unit.report.conftest import Sample
from tests.unit.store.made import add_run
from tests.unit.store.test_imports import ONE


def test_a_run_is_shown_with_its_data_and_its_baselines(
    shelf: Shelf, sample: Sample, capsys: pytest.CaptureFixture[str]
) -> None:
    run_id = shelf.add(sample.run(), queries=8)
    show(run_id[:-1], results=shelf.folder)
    out, said = capsys.readouterr()
    assert said == ""
    assert f"Run {run_id}: digits (abcdef0);" in out
    assert "model - baseline" in out


def test_json_is_the_summary_with_every_metric(
    shelf: Shelf, sample: Sample, capsys: pytest.CaptureFixture[str]
) -> None:
    shelf.add(sample.run())
    show("latest", results=shelf.folder, json=True)
    shown = json.loads(capsys.readouterr().out)
    assert (shown["state"], shown["spec"]["voters"], shown["environment"]["cpu"]) == (
        "done",
        7,
        ENVIRONMENT.cpu,
    )
    [run] = shown["runs"]
    assert set(run["metrics"]) == set(METRICS)
    assert run["metrics"]["decode_tokens_per_second"] == 88.13


def test_a_summary_is_computed_again_where_that_is_wanted(
    shelf: Shelf,
    sample: Sample,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run_id = shelf.add(sample.run())

    def recompute(run: StoredRun) -> Summary:
        return run.summary.model_copy(update={"wall_seconds": 99.0})

    monkeypatch.setattr(harness.pipeline.summarise, "recompute", recompute)
    show(run_id, recompute=True, results=shelf.folder, json=True)
    assert json.loads(capsys.readouterr().out)["wall_seconds"] == 99.0
    show(run_id, results=shelf.folder, json=True)
    assert json.loads(capsys.readouterr().out)["wall_seconds"] == 10.0


def test_a_group_is_shown_run_below_run(
    shelf: Shelf, sample: Sample, capsys: pytest.CaptureFixture[str]
) -> None:
    points = [shelf.add(sample.mock(), group="curve", voters=n) for n in (1, 2)]
    points.append(shelf.add(sample.mock(), finished=False, group="curve", voters=3))
    show("curve", results=shelf.folder)
    out = capsys.readouterr().out
    assert "Group curve: 3 runs" in out
    places = [out.index(text) for n, run in enumerate(points, 1) for text in (run, f"voters {n}")]
    assert places == sorted(places)
    assert f"harness show {points[-1]}" in out
    show("curve", results=shelf.folder, json=True)
    assert [one["run_id"] for one in json.loads(capsys.readouterr().out)["summaries"]] == points[:2]


def test_an_unfinished_run_of_a_group_has_the_stored_names_of_its_entries(
    shelf: Shelf, sample: Sample, capsys: pytest.CaptureFixture[str]
) -> None:
    """`~` in place of a home folder would make `mock@m` of it."""
    models = ("/root/m.gguf", "/elsewhere/m.gguf")
    entry = sample.run(entry="mock@root-m", backend="mock")
    shelf.add(entry, finished=False, group="curve", backend=("mock",), model=models)
    show("curve", results=shelf.folder)
    assert "mock@root-m" in capsys.readouterr().out


def test_a_damaged_member_does_not_hide_the_others_of_its_group(
    shelf: Shelf, sample: Sample, capsys: pytest.CaptureFixture[str]
) -> None:
    points = [shelf.add(sample.mock(), group="curve", voters=n) for n in (1, 2)]
    shelf.damage(points[0])
    with pytest.raises(typer.Exit) as ended:
        show("curve", results=shelf.folder, json=True)
    out, said = capsys.readouterr()
    assert ended.value.exit_code == 1
    assert json.loads(out)["run_ids"] == points[1:]
    assert f"error: run {points[0]} cannot be read: " in said

    shelf.damage(points[1])
    with pytest.raises(typer.Exit):
        show("curve", results=shelf.folder)
    out, said = capsys.readouterr()
    assert out == ""
    assert all(f"error: run {point} cannot be read: " in said for point in points)


@pytest.mark.parametrize("name", ["curve", "import-a"])
def test_only_a_run_is_computed_again(shelf: Shelf, sample: Sample, name: str) -> None:
    shelf.add(sample.run(), group="curve")
    shelf.store.save_imports([ONE])
    with pytest.raises(UsageError, match="--recompute takes one run"):
        show(name, recompute=True, results=shelf.folder)


@pytest.mark.parametrize(
    "flags",
    [
        {"replies": True, "command": True},
        {"prompt": "0:0", "recompute": True},
        {"only": Verdict.WRONG},
        {"limit": 3, "prompt": "0:0"},
        {"command": True, "json": True},
    ],
)
def test_one_thing_is_shown_at_a_time(shelf: Shelf, sample: Sample, flags: dict[str, Any]) -> None:
    shelf.add(sample.run())
    with pytest.raises(UsageError):
        show("latest", results=shelf.folder, **flags)


def test_prompts_and_replies_are_those_of_the_entry_that_is_named(
    shelf: Shelf, capsys: pytest.CaptureFixture[str]
) -> None:
    add_run(shelf.store, name="mine", backend=("mock", "other"), finished=False)
    show("mine:other", replies=True, results=shelf.folder, json=True)
    replies = json.loads(capsys.readouterr().out)["replies"]
    assert {one["entry"] for one in replies} == {"other"}
    show("mine", replies=True, limit=3, results=shelf.folder, format_=Format.CSV)
    assert len(capsys.readouterr().out.splitlines()) == 4
    show("mine:other", prompt="0:1", results=shelf.folder)
    assert "other: query 1 of voter 0" in capsys.readouterr().out
    with pytest.raises(StoreError, match="has no entry 'hf'"):
        show("mine:hf", prompt="0:1", results=shelf.folder)


def test_a_run_without_a_readable_reply_shows_some(
    shelf: Shelf, capsys: pytest.CaptureFixture[str]
) -> None:
    add_run(shelf.store, ["\x1b[2Jwell", "I", "think"])
    show("latest", results=shelf.folder)
    out = capsys.readouterr().out
    assert r'0:0  "\x1b[2Jwell"' in out
    show("latest", results=shelf.folder, json=True)
    json.loads(capsys.readouterr().out)


def test_the_command_of_a_run_with_tables_is_a_file_and_its_line(
    shelf: Shelf, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    add_run(shelf.store, backend=(), entries={"q8": {"backend": "mock"}}, finished=False)
    show("latest", command=True, results=shelf.folder)
    out, said = capsys.readouterr()
    assert "[entries.q8]" in out
    assert "--config run.toml" in said
    file = tmp_path / "mine.toml"
    show("latest", command=True, output=str(file), results=shelf.folder)
    line = capsys.readouterr().out
    assert line == f"harness run --config {file} --results {shelf.folder}\n"
    assert file.read_text() == out


def test_an_import_is_shown(shelf: Shelf, capsys: pytest.CaptureFixture[str]) -> None:
    shelf.store.save_imports([ONE])
    show("import-a", results=shelf.folder, json=True)
    assert json.loads(capsys.readouterr().out)["tool"] == "llama-bench"


def test_an_unfinished_run_says_how_to_complete_it(shelf: Shelf, sample: Sample) -> None:
    run_id = shelf.add(sample.run(), finished=False)
    with pytest.raises(StoreError, match=f"{run_id} ended before anything was") as caught:
        show(run_id, results=shelf.folder)
    assert f"harness run --resume {run_id} --results " in caught.value.remedy


def test_a_run_of_a_newer_version_says_so(shelf: Shelf, sample: Sample) -> None:
    run_id = shelf.add(sample.run())
    shelf.make_newer(run_id)
    with pytest.raises(StoreError, match=f"{run_id} was written by a newer version"):
        show(run_id, results=shelf.folder)


def test_reading_makes_no_store(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="holds no runs") as caught:
        show("latest", results=tmp_path / "nowhere")
    assert "harness run" in caught.value.remedy
    assert list(tmp_path.iterdir()) == []
