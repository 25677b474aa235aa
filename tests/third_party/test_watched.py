"""A project that watches its engine by our plugin, which is installed as a user would do it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest

NO_XDIST = ("-p", "no:xdist")
LIMITS = (
    "--harness-compare-fail=accuracy:3pp,parse_rate:1pp,prefill_tokens_per_second:50%,"
    "examples_per_voter:0%,peak_rss_mib:50%"
)
PLANTED = '--engine={"tokens_per_second": 2500, "script": "maybe"}'

Pytest: TypeAlias = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def environment(environment: dict[str, str]) -> dict[str, str]:
    """That of all of these tests: the harness is installed from its wheel, plugin and all."""
    return {**environment, "COLUMNS": "80"}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]) -> Path:
    """The project, with a benchmark that it has saved."""
    folder = tmp_path_factory.mktemp("project") / "watched"
    shutil.copytree(Path(__file__).parent / "watched", folder)
    done = _run(folder, environment, *NO_XDIST, "--benchmark-autosave", "--harness-results=stored")
    assert done.returncode == 0, done.stdout
    assert "2 passed" in done.stdout
    return folder


@pytest.fixture
def run(project: Path, environment: dict[str, str]) -> Pytest:
    return lambda *arguments: _run(project, environment, *arguments)


def _run(
    folder: Path, environment: dict[str, str], *arguments: str
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "--benchmark-storage=saved", *arguments]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def saved_file(project: Path) -> Path:
    [path] = (project / "saved").rglob("*.json")
    return path


def test_what_is_saved_is_small_and_has_every_round(project: Path) -> None:
    [saved] = json.loads(saved_file(project).read_text())["benchmarks"]
    info: dict[str, Any] = saved["extra_info"]["harness"]
    assert len(json.dumps(info)) < 10_000
    assert saved["stats"]["rounds"] == len(info["samples"]) == 12
    assert [sample["values"]["parse_rate"] for sample in info["samples"]] == [1.0] * 12
    assert {name: len(shares) for name, shares in info["shares"].items()} == {
        "accuracy": 20,
        "parse_rate": 20,
    }
    assert info["cells"] == {"done": 50, "failed": 0, "not_needed": 0}


def test_every_round_is_stored_where_it_was_wanted(
    project: Path, environment: dict[str, str]
) -> None:
    listed = subprocess.run(
        [sys.executable, "-m", "harness", "list", "--results", str(project / "stored"), "--json"],
        env=environment,
        capture_output=True,
        check=True,
    )
    assert len(json.loads(listed.stdout)["runs"]) == 12


def test_pytest_benchmarks_own_tool_reads_what_is_saved(project: Path) -> None:
    tool = Path(sys.executable).with_name("pytest-benchmark")
    done = subprocess.run(
        [str(tool), "compare", str(saved_file(project))],
        capture_output=True,
        text=True,
        check=False,
        cwd=project,
    )
    assert done.returncode == 0, done.stderr
    assert "test_votes" in done.stdout


def test_unchanged_it_passes(run: Pytest) -> None:
    done = run(*NO_XDIST, LIMITS)
    assert done.returncode == 0, done.stdout
    assert "= harness: no regressions =" in done.stdout
    assert "within limits: accuracy, parse_rate, prefill_tokens_per_second," in done.stdout
    assert "TOO FEW WORKERS to judge peak_rss_mib: 1 before, 1 now; 6 are needed" in done.stdout


def test_another_machine_is_reported_and_ends_nothing(run: Pytest, project: Path) -> None:
    """Even of the same one, what pytest-benchmark notes of its clock changes by itself."""
    saved = json.loads(saved_file(project).read_text())
    saved["machine_info"]["cpu"]["hz_actual_friendly"] = "0.1 GHz"
    path = project / "other_machine.json"
    path.write_text(json.dumps(saved), encoding="utf-8")
    done = run(*NO_XDIST, LIMITS, f"--benchmark-compare={path}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "PytestBenchmarkWarning: Benchmark machine_info is different" in done.stderr
    assert "= harness: no regressions =" in done.stdout


def test_what_is_planted_fails_with_the_metric_both_values_and_the_interval(run: Pytest) -> None:
    """pytest-xdist is there, and not used."""
    done = run(LIMITS, PLANTED, "--benchmark-compare=0001")
    assert done.returncode == 1, done.stdout
    assert "= harness: 2 regressions =" in done.stdout
    said = done.stdout[done.stdout.index("= harness:") :]
    assert "tests/test_votes.py::test_votes (MOCK)" in said
    assert "REGRESSED parse_rate: 1.000 -> 0.000, -100.0pp (limit 1pp)" in said
    assert re.search(r"95 % interval -100\.0pp to -\d\d\.\dpp; p = .* \(McNemar, exact\)", said)
    values = r"REGRESSED prefill_tokens_per_second: [\d,]+ -> [\d,]+, -\d\d\.\d% \(limit 50%\)"
    assert re.search(values, said)
    assert re.search(r"95 % interval -\d\d\.\d% to -\d\d\.\d%; p = .* \(Mann-Whitney U\)", said)
    # Without a reply that could be parsed, there is no accuracy to judge.
    assert "within limits: examples_per_voter\n" in said
    assert max(map(len, said.splitlines()[1:])) <= 80


def test_fewer_examples_in_the_context_are_a_regression(run: Pytest) -> None:
    """They are counted: no chance is involved, and no more rounds would tell more."""
    done = run(*NO_XDIST, LIMITS, "--context=250", "--benchmark-compare=0001")
    assert done.returncode == 1, done.stdout
    assert re.search(r"REGRESSED examples_per_voter: \d+\.\d -> \d+\.\d, -\d+", done.stdout)
    assert "PROMPTS DIFFER" in done.stdout


FRESH = """
import pytest

@pytest.mark.harness(backend="mock", voters=1, queries=2, calibration_queries=0, rounds=6)
def test_memory(benchmark, harness_run, data):
    engine = {"delay_ms": 200}  # memory is looked at ten times a second
    harness_run(benchmark, fresh_engine=True, data=data, max_model_len=300, engine=engine)
"""


def test_with_a_fresh_engine_each_round_memory_and_loading_are_judged(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    (tmp_path / "test_fresh.py").write_text(FRESH, encoding="utf-8")
    shutil.copy(Path(__file__).parent / "watched" / "tests" / "conftest.py", tmp_path)
    limits = "--harness-compare-fail=peak_rss_mib:50%,load_seconds:100000%"
    saved = _run(tmp_path, environment, *NO_XDIST, "--benchmark-autosave")
    assert saved.returncode == 0, saved.stdout
    done = _run(tmp_path, environment, *NO_XDIST, limits)
    assert done.returncode == 0, done.stdout
    assert "within limits: peak_rss_mib, load_seconds" in done.stdout


def test_where_xdist_is_used_nothing_is_judged_and_that_is_said(run: Pytest) -> None:
    done = run("-n", "2", LIMITS, PLANTED)
    assert done.returncode == 0, done.stdout
    assert "2 passed" in done.stdout
    assert done.stdout.count("is not checked: benchmarks are disabled") == 1


def test_limits_and_baselines_that_are_not_there_are_usage_errors(run: Pytest) -> None:
    wrong = run(*NO_XDIST, "--harness-compare-fail=speed:3%")
    assert wrong.returncode == pytest.ExitCode.USAGE_ERROR
    assert "there is no metric speed" in wrong.stderr
    assert "decode_tokens_per_second" in wrong.stderr
    missing = run(*NO_XDIST, LIMITS, "--benchmark-compare=0009")
    assert missing.returncode == pytest.ExitCode.USAGE_ERROR
    assert "requires a saved benchmark" in missing.stderr


FAILING = """
def test_no_such_model(harness_session):
    harness_session("llama-cpp", "no-such-model")

def test_all_cells_fail(benchmark, harness_run, data):
    harness_run(benchmark, backend="mock", data=data, engine={"crash_at": 1, "batch": 999})

def test_an_unknown_field(benchmark, harness_run):
    harness_run(benchmark, backend="mock", voter=3)

def test_some_cells_fail(benchmark, harness_run, data):
    options = {"crash_at": 9, "batch": 4}
    harness_run(benchmark, rounds=1, backend="mock", data=data, queries=20, engine=options)
"""


def test_what_cannot_run_fails_the_test_with_its_remedy(run: Pytest, project: Path) -> None:
    path = project / "test_failing.py"
    path.write_text(FAILING, encoding="utf-8")
    shutil.copy(project / "tests" / "conftest.py", project)
    done = run(*NO_XDIST, str(path))
    assert done.returncode == 1
    assert "4 failed" in done.stdout
    assert "no-such-model" in done.stdout
    assert "mock gave no reply: " in done.stdout
    assert "there is no key" in done.stdout
    assert re.search(r"PytestWarning: mock: \d+ cells failed", done.stdout)
