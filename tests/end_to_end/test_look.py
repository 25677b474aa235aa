"""A look into a run, and a run that goes elsewhere, as users meet them."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest


def harness(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "harness", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, small_data: str) -> Path:
    """Results with a run of which no reply can be read."""
    made = tmp_path_factory.mktemp("look")
    size = ("--voters", "2", "--queries", "4", "--max-model-len", "300", "--no-baselines")
    script = "script=I think so| perhaps"
    done = harness(
        *(made, "run", "--backend", "mock", "--data", small_data, *size, "--max-tokens", "20"),
        *("--engine-option", script, "--name", "mine"),
    )
    assert "No reply of mock could be read as a label (no, yes). The first 3 of 8:" in done.stdout
    assert "(mine):" in done.stdout
    return made


def test_the_line_that_repeats_a_run_gives_the_same_prompts(folder: Path) -> None:
    line = harness(folder, "show", "mine", "--command").stdout
    harness(folder, *shlex.split(line)[1:])
    first, again = (
        json.loads(harness(folder, "show", name, "--json").stdout) for name in ("mine", "latest")
    )
    assert first["run_id"] != again["run_id"]
    assert first["runs"][0]["prompts"] == again["runs"][0]["prompts"]
    assert again["name"] is None


def test_a_run_that_was_passed_on_is_the_same_there(folder: Path) -> None:
    shown = ("show", "mine", "--json")
    harness(folder, "export", "mine", "-o", "run.zip")
    (folder / "there").mkdir()
    harness(folder / "there", "import", "../run.zip")
    assert harness(folder / "there", *shown).stdout == harness(folder, *shown).stdout
    harness(folder / "there", "export", "mine", "-o", "rows.parquet")
    assert len(pd.read_parquet(folder / "there" / "rows.parquet")) > 8
    harness(folder / "there", "delete", "mine", "--yes")
    assert json.loads(harness(folder / "there", "list", "--json").stdout)["runs"] == []
