from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer

from harness.cli.history import history
from harness.comparison.metrics import METRICS
from harness.errors import StoreError, UsageError
from tests.unit.cli.conftest import Shelf
from tests.unit.report.conftest import Sample


def test_a_metric_that_there_is_not_is_refused_with_those_that_there_are(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no metric is called 'speed'") as refused:
        history("speed", results=tmp_path)
    assert all(name in refused.value.remedy for name in METRICS)


def test_a_folder_without_runs_is_an_error_and_stays_empty(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="holds no runs"):
        history(results=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_unreadable_and_unfinished_runs_do_not_hide_the_others(
    shelf: Shelf, sample: Sample, capsys: pytest.CaptureFixture[str]
) -> None:
    run_id, damaged, newer = (shelf.add(sample.run()) for _ in range(3))
    shelf.add(sample.run(), finished=False)
    shelf.add(sample.run(), group="curve")
    shelf.damage(damaged)
    shelf.make_newer(newer)
    with pytest.raises(typer.Exit) as ended:
        history(results=shelf.folder, json=True)
    assert ended.value.exit_code == 1
    out, said = capsys.readouterr()
    whole = json.loads(out)
    assert set(whole["unreadable"]) == {damaged, newer}
    assert [point["run_id"] for point in whole["series"][0]["points"]] == [run_id]
    assert f"error: run {damaged} cannot be read: " in said
    assert f"error: run {newer} was written by a newer version of the harness" in said
    with pytest.raises(typer.Exit):
        history(results=shelf.folder)
    text = capsys.readouterr().out
    assert "Left out: 2 runs that cannot be read." in text
    assert "Left out: 1 series of fewer than two runs; --all shows them." in text
