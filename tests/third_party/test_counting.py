"""A third party's backend: installed as a user would, then an equal of the harness's own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import harness


def _harness(environment: dict[str, str], *arguments: str) -> Any:
    return json.loads(_said(environment, *arguments, "--json"))


def _said(environment: dict[str, str], *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "harness", *arguments],
        capture_output=True,
        check=True,
        env=environment,
        text=True,
    )
    return done.stdout


def test_it_is_listed(environment: dict[str, str], tmp_path: Path) -> None:
    """Where no engine has an environment of its own, as to look into one takes long."""
    alone = {**environment, "XDG_DATA_HOME": str(tmp_path)}
    rows = {row["name"]: row for row in _harness(alone, "backends")["backends"]}
    assert rows["counting"]["available"] is True
    assert rows["counting"]["version"] == "0.1.0"


def test_it_runs(environment: dict[str, str], tmp_path: Path) -> None:
    summary = _harness(
        environment,
        *("run", "--backend", "counting", "--engine-option", "prior=2", "--max-model-len", "400"),
        *("--voters", "2", "--queries", "6", "--no-baselines", "--results", str(tmp_path)),
    )
    (run,) = summary["runs"]
    assert run["backend"] == "counting"
    assert run["cells"]["failed"] == 0
    assert run["parse"]["strict"]["value"] == 1.0
    assert run["speed"]["computed_tokens"] == run["speed"]["unique_tokens"] > 0


def test_its_option_is_a_flag_a_key_and_stored(environment: dict[str, str], tmp_path: Path) -> None:
    """It is defined in one place, `harness_counting.PRIOR`."""
    said = " ".join(_said(environment, "run", "--help").split())
    assert (
        "--prior X How often each label counts as seen beforehand. Default: 1. For counting" in said
    )
    assert "--prior X" in _said(environment, "bench", "--help")
    (tmp_path / "bench.toml").write_text('backend = "counting"\nprior = 3\n')
    results = ("--results", str(tmp_path / "results"))
    size = ("--voters", "1", "--queries", "4", "--max-model-len", "400", "--no-baselines")
    config = ("--config", str(tmp_path / "bench.toml"))
    for given in (config, (*config, "--prior", "2.5")):
        _harness(environment, "run", *given, *size, *results)
    with harness.open_results(tmp_path / "results") as stored:
        assert [run.spec.engine for run in stored] == [{"prior": 2.5}, {"prior": 3}]
    page = [sys.executable, "-m", "harness.cli.reference"]
    done = subprocess.run(page, capture_output=True, check=True, env=environment, text=True)
    assert "| prior | counting | --prior X | 1 |" in done.stdout
    wrong = [sys.executable, "-m", "harness", "run", *config, "--prior", "-1"]
    refused = subprocess.run(wrong, capture_output=True, check=False, env=environment, text=True)
    assert refused.returncode == 2
    assert "counting: prior is -1" in refused.stderr


def test_it_is_compared_with_another_backend_of_its_run(
    environment: dict[str, str], tmp_path: Path
) -> None:
    results = ("--results", str(tmp_path))
    size = ("--voters", "2", "--queries", "6", "--calibration-queries", "3", "--no-baselines")
    command = ("run", "--backend", "counting", "--backend", "mock", "--max-model-len", "300")
    table = _said(environment, *command, *size, *results)
    assert "do they agree?" in table
    compared = _harness(environment, "compare", "latest", *results)
    (agreement,) = compared["agreements"]
    assert [agreement[side]["backend"] for side in ("first", "other")] == ["counting", "mock"]
    assert (agreement["prompts"], agreement["labels"]["answered"]) == (18, 12)
    assert not agreement["same_weights"]
    assert agreement["log_odds"]["prompts"] == 18
    assert agreement["log_odds"]["furthest"][0]["difference"] == agreement["log_odds"]["largest"]
    counting, mock = (run["accuracy"]["confusion"] for run in compared["runs"][0]["runs"])
    differing = agreement["verdicts"]["differing"]
    assert agreement["verdicts"]["queries"] == 6
    assert differing or counting == mock
    said = _said(environment, "compare", "latest", *results)
    assert all(f"{one['position']} (row {one['row']})" in said for one in differing[:5])


def test_it_conforms(environment: dict[str, str], tmp_path: Path) -> None:
    suite = ("-p", "harness.testing.conformance.options", "--pyargs", "harness.testing.conformance")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *suite, "--harness-backend", "counting", "-q"],
        capture_output=True,
        check=False,
        cwd=tmp_path,
        env=environment,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
