"""The public names."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import harness
from harness.errors import StoreError, UsageError
from harness.store.runs import StoredRun


def test_the_public_names_are_these() -> None:
    assert harness.__all__ == ("__version__", "benchmark", "compare", "open_results")
    assert all(getattr(harness, name) for name in harness.__all__)


def test_importing_the_package_imports_nothing_heavy() -> None:
    heavy = ("numpy", "pandas", "pydantic", "sqlalchemy", "sklearn", "rich", "importlib.metadata")
    program = f"import harness, sys; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    assert done.stdout.strip() == "[]"


def test_results_can_be_walked_through_with_and_without_with(
    old_results: Callable[[int], Path],
) -> None:
    folder = old_results(3)
    runs = list(harness.open_results(folder))
    assert all(isinstance(run, StoredRun) for run in runs)
    assert [run.created for run in runs] == sorted((run.created for run in runs), reverse=True)
    with harness.open_results(str(folder)) as results:
        assert [run.run_id for run in results] == [run.run_id for run in runs]


def test_a_folder_without_results_is_a_store_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="holds no runs"):
        harness.open_results(tmp_path)


@pytest.mark.parametrize("version", [1, 2, 3])
def test_runs_of_earlier_versions_are_compared(
    old_results: Callable[[int], Path], version: int
) -> None:
    folder = old_results(version)
    unfinished, two, plain = harness.open_results(folder)
    by_runs = harness.compare(plain, two)
    by_names = harness.compare(plain.run_id, two.run_id, results=folder)
    assert by_runs == by_names
    assert [one.other.entry for one in by_runs.against_first] == ["mock", "twin"]
    assert [one.unpaired_because is None for one in by_runs.against_first] == [False, False]
    with pytest.raises(StoreError, match="not finished"):
        harness.compare(plain, unfinished)
    with pytest.raises(UsageError, match="two runs or more"):
        harness.compare(plain, plain.run_id, results=folder)
