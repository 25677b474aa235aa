from __future__ import annotations

import json
from pathlib import Path
from typing import get_type_hints

import pytest

from harness.cli.history import history
from harness.errors import StoreError, UsageError
from harness.metrics import METRICS
from harness.spec import RunSpec
from harness.store.store import Store
from tests.unit.comparison.test_history import ENVIRONMENT
from tests.unit.report.conftest import Sample


def test_help_names_every_metric() -> None:
    hints = get_type_hints(history, include_extras=True)
    told = hints["metric"].__metadata__[0].help
    assert set(METRICS) <= set(told.replace(",", " ").replace(".", " ").split())


def test_a_metric_that_there_is_not_is_refused_with_those_that_there_are(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no metric is called 'speed'") as refused:
        history("speed", results=tmp_path)
    assert all(name in refused.value.remedy for name in METRICS)


def test_a_folder_without_runs_is_an_error_and_stays_empty(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="holds no runs"):
        history(results=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_unreadable_and_unfinished_runs_do_not_hide_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec, environment = RunSpec().model_dump_json(), ENVIRONMENT.model_dump_json()
    with Store(tmp_path) as store:
        run_id = store.create_run(spec, environment)
        summary = Sample().kept(run_id=run_id).summary
        store.finish_run(run_id, summary.model_dump_json())
        store.create_run(spec, environment)
        for wrong in ((spec, "{}"), ('{"colour": "red"}', environment)):
            store.finish_run(store.create_run(*wrong), summary.model_dump_json())
    history(results=tmp_path, json=True)
    whole = json.loads(capsys.readouterr().out)
    assert whole["unreadable"] == 2
    assert [point["run_id"] for point in whole["series"][0]["points"]] == [run_id]
    history(results=tmp_path)
    text = capsys.readouterr().out
    assert "Left out: 2 runs kept by another version of the harness." in text
    assert "Left out: 1 series of fewer than two runs; --all shows them." in text
