"""A user's own `prompts` and `backends` lie first on the path: beside a notebook, or a test."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = """
import harness
small = dict(voters=1, queries=2, data={data!r}, max_model_len=300, baselines=False)
summary = harness.benchmark(backend="mock", **small)
assert len(summary.runs) == 1
"""
THEIRS = """
import prompts, prompts.wording, backends, backends.api
assert prompts.wording.SYSTEM == "be kind"
assert backends.CHOSEN == backends.api.KEY == "theirs"
"""
TEST = """
import prompts.wording
import backends.api

def test_votes(benchmark, harness_run):
    harness_run(
        benchmark, backend="mock", voters=1, queries=2, rounds=2, data={data!r}, max_model_len=300
    )
    from backends.api import KEY
    assert (KEY, prompts.wording.SYSTEM) == ("theirs", "be kind")
"""
SIZE = ("--voters", "1", "--queries", "2", "--max-model-len", "300", "--no-baselines")
RUN = ("run", "--backend", "mock", *SIZE)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """`prompts` has no `__init__.py`: a package of that name anywhere on the path would hide it."""
    for name, content in {
        "prompts/wording.py": 'SYSTEM = "be kind"',
        "backends/__init__.py": 'CHOSEN = "theirs"',
        "backends/api.py": 'KEY = "theirs"',
        "backends/mock.py": "raise RuntimeError('this is not the harness its own')",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    return tmp_path


def python(folder: Path, *arguments: str) -> None:
    """The folder is first on the path of the workers, too."""
    environment = {name: value for name, value in os.environ.items() if "PYTEST" not in name}
    path = os.pathsep.join(filter(None, [str(folder), environment.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**environment, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_from_a_notebook(folder: Path, small_data: str) -> None:
    benchmark = BENCHMARK.format(data=small_data)
    python(folder, "-c", THEIRS + benchmark + THEIRS)
    python(folder, "-c", benchmark + THEIRS)


def test_from_the_command_line(folder: Path, small_data: str) -> None:
    python(folder, "-m", "harness", *RUN, "--data", small_data)


def test_from_a_test(folder: Path, small_data: str) -> None:
    (folder / "test_votes.py").write_text(TEST.format(data=small_data))
    python(folder, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_votes.py")
