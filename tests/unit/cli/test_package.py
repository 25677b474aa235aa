"""The package itself: its function for notebooks, its version, and what a help text imports."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

import harness
from harness.errors import UsageError

HEAVY = ("numpy", "scipy", "sklearn", "sqlalchemy", "torch", "pyarrow", "jinja2")


def test_version_is_the_installed_one() -> None:
    assert harness.__version__ == version("llm-backend-harness")
    with pytest.raises(AttributeError, match="nothing"):
        _ = harness.nothing


def test_benchmark_refuses_a_wrong_spec_before_anything_else(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no key voter"):
        harness.benchmark(tmp_path / "results", voter=3)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "command",
    [[], ["run"], ["bench"], ["list"], ["compare"], ["history"], ["import"], ["backends"]],
)
def test_help_imports_nothing_heavy(command: list[str]) -> None:
    code = (
        "import sys; from harness.cli import main; import atexit; "
        "atexit.register(lambda: print(*sys.modules, file=sys.stderr)); main()"
    )
    arguments = [sys.executable, "-c", code, *command, "--help"]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True)
    assert "Usage:" in done.stdout
    assert set(HEAVY).isdisjoint(done.stderr.split())
