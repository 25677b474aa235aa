"""CIFAKE, with which the project began: the command in the README keeps its promise.

It takes some minutes of two cores, and data that are not in the repository.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from harness.engine.interpreters import find_interpreter
from harness.engine.models import resolve_model
from harness.engine.registry import find_backend
from harness.engine.session import check_backend
from harness.errors import EngineError
from harness.spec import RunSpec

ROOT = Path(__file__).parents[2]
DATA = ROOT.parent / "shared" / "cifake" / "embeddings"
COMMAND = (
    *(sys.executable, "-m", "harness", "run", "--data", str(DATA), "--voters", "9"),
    *("--queries", "200", "--decoding", "score", "--max-model-len", "2048", "--json"),
)
TIMEOUT_SECONDS = 120.0


def why_not(log: Path) -> str | None:
    """Why the command cannot be run here."""
    if not DATA.is_dir():
        return f"there is no {DATA}"
    backend = find_backend("llama-cpp")
    python = find_interpreter(backend.name, None)
    availability = check_backend(backend.target, TIMEOUT_SECONDS, log, python)
    if not availability.available:
        return f"{availability.reason}. {availability.remedy}"
    try:
        resolve_model(RunSpec().model[0], backend.load().FORMATS, {})
    except EngineError as error:
        return str(error)
    return None


def test_the_readmes_command_tells_real_from_generated_images(tmp_path: Path) -> None:
    reason = why_not(tmp_path / "check.log")
    if reason:
        pytest.skip(reason)
    done = subprocess.run(COMMAND, check=False, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    [run] = json.loads(done.stdout)["runs"]
    assert (run["dataset"], run["cells"]["failed"]) == ("cifake/embeddings", 0)
    accuracy, speed = run["accuracy"], run["speed"]
    assert max(accuracy["soft"]["value"], accuracy["calibrated"]["value"]) >= 0.82
    assert speed["computed_tokens"] == speed["unique_tokens"] > 0
