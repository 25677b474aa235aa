"""Which Python runs a worker, and what of ours it sees."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import platformdirs
import psutil
import pytest

from harness.config import RunSpec
from harness.engine.engine import Engine
from harness.engine.interpreters import find_interpreter, worker_environment
from harness.errors import EngineError


@pytest.fixture
def other_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A Python in an environment of its own, without the harness."""
    cache = tmp_path / "cache"
    monkeypatch.setattr(platformdirs, "user_cache_path", lambda *_: cache)
    subprocess.run(
        [sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "other")], check=True
    )
    return str(tmp_path / "other" / "bin" / "python")


def test_without_a_configured_one_it_is_ours() -> None:
    assert find_interpreter("mock", None) == sys.executable


def test_one_that_is_not_there_is_an_error() -> None:
    with pytest.raises(EngineError, match="no interpreter /none/python") as caught:
        find_interpreter("mock", "/none/python")
    assert "[backends.mock]" in caught.value.remedy


def test_another_python_sees_backends_alone(other_python: str) -> None:
    found = subprocess.run(
        [
            other_python,
            "-P",
            "-c",
            "import backends.worker, importlib.util as u, sys; "
            "print(u.find_spec('harness'), u.find_spec('numpy'), sys.prefix)",
        ],
        capture_output=True,
        check=True,
        env=dict(worker_environment(other_python)),
        text=True,
    )
    assert found.stdout.split() == ["None", "None", str(Path(other_python).parents[1])]


def test_a_run_uses_the_interpreter_of_the_config(other_python: str, tmp_path: Path) -> None:
    own = {"mock": {"python": other_python}}
    spec = RunSpec(backend="mock", max_model_len=100, backends=own)
    with Engine("mock", spec, tmp_path / "log") as engine:
        assert engine.session.tokenize(["a"]) == [[97]]
        workers = [child.cmdline() for child in psutil.Process().children()]
    assert other_python in [command[0] for command in workers if "backends.worker" in command]
