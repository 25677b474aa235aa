"""The projects here are run by their own pytest, or are no tests."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BACKENDS = [Path(__file__).parent / name for name in ("counting", "plain")]

collect_ignore = ["counting", "plain", "watched"]


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment in which the harness and the example backends are installed from wheels."""
    target = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    # Without an index: what the builds need is there, and a test downloads nothing.
    offline = ["--no-index", "--no-deps", "--no-build-isolation"]
    packages = map(str, [ROOT, *BACKENDS])
    subprocess.run([*pip, *offline, "--target", str(target), *packages], check=True)
    plain = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
    return {**plain, "PYTHONPATH": str(target)}
