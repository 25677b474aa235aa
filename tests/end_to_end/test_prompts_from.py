"""`harness run --prompts-from`, as its users meet it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest


def harness(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "harness", *arguments, "--results", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, small_data: str) -> Path:
    """Results with one run."""
    made = tmp_path_factory.mktemp("results")
    size = ("--voters", "2", "--queries", "4", "--max-model-len", "300", "--no-baselines")
    done = harness(made, "run", "--backend", "mock", "--data", small_data, *size)
    assert done.returncode == 0, done.stderr
    return made


def test_prompts_of_an_earlier_run_are_asked_again(folder: Path) -> None:
    again = ("run", "--prompts-from", "latest", "--backend", "mock", "--engine-option", "batch=2")
    done = harness(folder, *again, "--no-baselines")
    assert done.returncode == 0, done.stderr
    assert "Its prompts are those of run " in done.stdout
    first, other = json.loads(harness(folder, "list", "--json").stdout)["runs"][::-1]
    done = harness(folder, "compare", first["run_id"], other["run_id"])
    compared = " ".join(done.stdout.split())
    assert f"given the same prompts as mock {first['run_id']}." in compared
    assert "specs differ in engine {} / {'batch': 2}." in compared


def test_a_flag_that_would_change_them_is_an_error_that_names_it(folder: Path) -> None:
    done = harness(folder, "run", "--prompts-from", "latest", "--backend", "mock", "--voters", "3")
    assert done.returncode == 2
    assert "--voters: beside --prompts-from" in done.stderr
    assert done.stdout == ""
