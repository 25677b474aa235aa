"""What `harness show` finds under a name, and what it says where it finds nothing to show."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer

import harness.pipeline.summarise
from harness.cli.show import show
from harness.comparison.metrics import METRICS
from harness.errors import StoreError, UsageError
from harness.store.runs import StoredRun
from harness.summary import Summary
from tests.unit.cli.conftest import Shelf
from tests.unit.comparison.made import ENVIRONMENT
from tests.unit.report.conftest import Sample
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
