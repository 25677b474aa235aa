"""A third party's backend that can do little: it conforms, and a run says what it cannot report."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

SUITE = ("-p", "harness.testing.conformance.options", "--pyargs", "harness.testing.conformance")


def _run(
    environment: dict[str, str], folder: Path, *arguments: str
) -> subprocess.CompletedProcess[str]:
    """A module's command, started where no copy of the harness's repository is."""
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        capture_output=True,
        check=False,
        cwd=folder,
        env=environment,
        text=True,
    )


def _conformance(
    environment: dict[str, str], folder: Path, *arguments: str
) -> subprocess.CompletedProcess[str]:
    return _run(environment, folder, "pytest", *SUITE, "-rs", *arguments)


def test_it_conforms_by_what_it_can(environment: dict[str, str], tmp_path: Path) -> None:
    done = _conformance(environment, tmp_path, "--harness-backend", "plain")
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
    for reason in ("takes text only", "cannot forget", "refuses score", "refuses choice"):
        assert reason in done.stdout


def test_the_suite_runs_the_installed_harness(environment: dict[str, str], tmp_path: Path) -> None:
    done = _conformance(environment, tmp_path, "--harness-backend", "plain", "--collect-only")
    listed = done.stdout[done.stdout.index("rootdir") :]
    assert "test_info_is_sane" in listed
    where = "import harness.testing.conformance as suite; print(suite.__file__)"
    said = subprocess.run(
        [sys.executable, "-c", where],
        capture_output=True,
        check=True,
        cwd=tmp_path,
        env=environment,
        text=True,
    )
    assert said.stdout.startswith(environment["PYTHONPATH"])


def test_a_backend_that_is_not_there_and_an_option_that_is_not_known_fail_with_a_remedy(
    environment: dict[str, str], tmp_path: Path
) -> None:
    def message(*arguments: str) -> str:
        done = _conformance(environment, tmp_path, *arguments, "-k", "info_is_sane")
        assert done.returncode == 1
        return done.stdout

    assert "name a backend" in message()
    assert "there is no backend 'none-such'" in message("--harness-backend", "none-such")
    unknown = ("--harness-backend", "plain", "--harness-option", "speed=3")
    assert "plain has no option speed" in message(*unknown)


def _missing_figures(run: object, path: Sequence[str] = ()) -> set[str]:
    """The names of the figures in a JSON object that are `None`."""
    if isinstance(run, dict):
        return {
            name for key, value in run.items() for name in _missing_figures(value, [*path, key])
        }
    return {path[-1]} if run is None else set()


def test_a_run_has_nulls_with_reasons_for_what_it_cannot_report(
    environment: dict[str, str], tmp_path: Path
) -> None:
    size = ("--voters", "2", "--queries", "6", "--max-model-len", "400", "--no-baselines")
    done = _run(environment, tmp_path, "harness", "run", "--backend", "plain", *size, "--json")
    assert done.returncode == 0, done.stderr
    [run] = json.loads(done.stdout)["runs"]
    assert run["backend"] == "plain"
    assert run["cells"]["failed"] == 0
    assert run["cells"]["done"] > 0
    assert run["accuracy"]["queries"] == 6
    for figure in (
        "prefill_tokens_per_second",
        "decode_tokens_per_second",
        "time_to_first_token_ms",
        "computed_tokens",
    ):
        assert run["speed"][figure] is None
        assert run["missing"][figure]
    for figure in ("soft", "calibrated"):
        assert run["accuracy"][figure] is None
        assert run["missing"][figure]
    assert run["speed"]["engine_seconds"] > 0  # by the client's clock
    no_figures = {"own_difference", "shuffled", "low", "high"}  # low, high: of too few samples
    assert set(run["missing"]) == _missing_figures(run) - no_figures
    assert run["cells"]["not_needed"] == 2 * 20  # nothing to calibrate with
