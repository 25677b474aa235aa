"""What a notebook shows, without a notebook."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import Mock

import harness
from harness.report.notebook import bundle_of, show_stored_runs
from harness.store.runs import StoredRun
from harness.store.store import Store
from tests.unit.cli.conftest import Shelf
from tests.unit.report.conftest import Sample

HOSTILE = "<script>alert(1)</script>&"


def test_a_run_and_a_comparison_show_their_tables(tmp_path: Path, small_data: str) -> None:
    run = harness.benchmark(
        tmp_path,
        data=small_data,
        voters=1,
        queries=10,
        calibration_queries=0,
        max_model_len=300,
        model=HOSTILE,
        entries={name: {"backend": "mock"} for name in ("one", "two")},
    )
    compared = harness.compare(f"{run.run_id}:one", f"{run.run_id}:two", results=tmp_path)
    for shown, words in ((run, "accuracy voted"), (compared, "other is")):
        bundle = shown._repr_mimebundle_(include=None, exclude=None)
        assert set(bundle) == {"text/html", "text/plain"}
        assert words in bundle["text/plain"]
        assert words in bundle["text/html"]
        assert bundle["text/html"].startswith("<pre")
        assert "<script>" not in bundle["text/html"]
    assert HOSTILE in run._repr_mimebundle_()["text/plain"]
    # A table names its hardware, and says first who is ahead.
    assert "\nMachine: " in run._repr_mimebundle_()["text/plain"]
    assert "the same: shown examples" in run._repr_mimebundle_()["text/plain"]
    again = harness.compare(f"{run.run_id}:one", f"{run.run_id}:two", results=tmp_path)
    assert again == compared


def test_ipython_shows_a_stored_run_as_its_table(tmp_path: Path, small_data: str) -> None:
    given: dict[str, Any] = {"voters": 1, "queries": 4, "calibration_queries": 0}
    harness.benchmark(
        tmp_path,
        "mine",
        backend="mock",
        data=small_data,
        max_model_len=300,
        baselines=False,
        **given,
    )
    ipython = ModuleType("IPython")
    ipython.get_ipython = Mock()  # type: ignore[attr-defined]
    show_stored_runs(ipython)
    for_type = ipython.get_ipython().display_formatter.mimebundle_formatter.for_type
    for_type.assert_called_once_with(StoredRun, bundle_of)
    bundle = bundle_of(harness.open_results(tmp_path).run("mine"))
    assert "accuracy voted" in bundle["text/html"]
    assert "(mine): " in bundle["text/plain"]
    ipython.get_ipython = lambda: None  # type: ignore[attr-defined]
    show_stored_runs(ipython)  # imported, and not what runs this


def test_a_run_that_cannot_be_read_says_why(tmp_path: Path, sample: Sample) -> None:
    with Store(tmp_path) as store:
        shelf = Shelf(store, tmp_path)
        shelf.damage(run_id := shelf.add(sample.run()))
    bundle = bundle_of(harness.open_results(tmp_path).run(run_id))
    assert run_id in bundle["text/plain"]
    assert "cannot be read" in bundle["text/plain"]
