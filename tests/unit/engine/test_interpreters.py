"""Which Python runs a worker, and what of ours it sees."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import platformdirs
import psutil
import pytest

from harness.engine.engine import Engine, plan_engine
from harness.engine.interpreters import find_interpreter, own_environment, worker_environment
from harness.engine.process import WORKER
from harness.engine.session import check_backend
from harness.errors import EngineError
from harness.spec import RunSpec, entries_of


@pytest.fixture
def other_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A Python in an environment of its own, without the harness."""
    cache = tmp_path / "cache"
    monkeypatch.setattr(platformdirs, "user_cache_path", lambda *_: cache)
    subprocess.run(
        [sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "other")], check=True
    )
    return str(tmp_path / "other" / "bin" / "python")


def test_without_one_of_its_own_it_is_ours() -> None:
    assert find_interpreter("mock", None) == sys.executable


def test_one_that_is_not_there_is_an_error() -> None:
    with pytest.raises(EngineError, match="no interpreter /none/python") as caught:
        find_interpreter("mock", "/none/python")
    assert "[backends.mock]" in caught.value.remedy


def test_one_that_cannot_be_started_is_an_error(tmp_path: Path) -> None:
    odd = tmp_path / "python"
    odd.write_text("no program")
    odd.chmod(0o755)
    python = find_interpreter("mock", str(odd))
    with pytest.raises(EngineError, match="cannot be started") as caught:
        check_backend("backends.mock", 10.0, tmp_path / "log", python)
    assert "`python`" in caught.value.remedy


def test_several_that_start_together_find_what_they_need(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for attempt in range(10):
        cache = tmp_path / str(attempt)
        monkeypatch.setattr(platformdirs, "user_cache_path", lambda *_, at=cache: at)
        with ThreadPoolExecutor(8) as pool:
            found = pool.map(worker_environment, ["/other/python"] * 8, ["backends.mock"] * 8)
            [folder] = {one["PYTHONPATH"] for one in found}
        assert [link.name for link in Path(folder).iterdir()] == ["backends"]


def test_its_own_environment_goes_before_ours_and_the_configured_before_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    own = own_environment("mock")
    own.python.parent.mkdir(parents=True)
    own.python.symlink_to(sys.executable)
    assert find_interpreter("mock", None) == sys.executable
    own.stamp.touch()
    assert find_interpreter("mock", None) == str(own.python)
    assert find_interpreter("mock", "/bin/sh") == "/bin/sh"
    own.python.unlink()  # as when the Python that it was made with is removed
    assert find_interpreter("mock", None) == sys.executable


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
        env=dict(worker_environment(other_python, "backends.mock")),
        text=True,
    )
    assert found.stdout.split() == ["None", "None", str(Path(other_python).parents[1])]


@pytest.mark.parametrize("module", ["theirs.py", "theirs/__init__.py"])
def test_another_python_sees_the_module_of_a_third_party(
    other_python: str, module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path / "site"
    (site / module).parent.mkdir(parents=True)
    (site / module).write_text("import backends.mock as engine\n")
    (site / "beside.py").touch()
    monkeypatch.syspath_prepend(site)
    environment = worker_environment(other_python, "theirs:engine")
    (folder,) = map(Path, environment["PYTHONPATH"].split(os.pathsep))
    assert {link.stem for link in folder.iterdir()} == {"backends", "theirs"}
    check = check_backend("theirs:engine", 30.0, tmp_path / "log", other_python)
    assert check.available, check.reason


def test_a_run_uses_the_interpreter_of_the_config(other_python: str, tmp_path: Path) -> None:
    own = {"mock": {"python": other_python}}
    spec = RunSpec(backend="mock", max_model_len=100, backends=own)
    plan = plan_engine(entries_of(spec)[0], spec, tmp_path)
    with Engine(plan, 100) as engine:
        assert engine.session.tokenize(["a"]) == [[97]]
        workers = [child.cmdline() for child in psutil.Process().children()]
    assert other_python in [command[0] for command in workers if str(WORKER) in command]


SPAWNING = """
import multiprocessing
from backends.api import Availability

def probe(found):
    import backends.api
    found.put(backends.api.__file__)

def check():
    context = multiprocessing.get_context("spawn")
    found = context.SimpleQueue()
    process = context.Process(target=probe, args=(found,))
    process.start()
    process.join()
    return Availability(True, version=found.get())
"""


def test_a_worker_and_the_processes_it_starts_find_our_backends_behind_a_users(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "backends.py").write_text("raise RuntimeError('a user has this, too')")
    (tmp_path / "spawning.py").write_text(SPAWNING)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    found = check_backend("spawning", 60.0, tmp_path / "log", sys.executable)
    assert found.version == str(WORKER.with_name("api.py")), (tmp_path / "log").read_text()


def test_a_home_that_may_not_be_looked_at_has_no_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As in a container that another user started: HOME is /root."""
    monkeypatch.setattr(Path, "is_file", forbidden)
    assert not own_environment("mock").is_whole
    assert find_interpreter("mock", None) == sys.executable


def forbidden(*_: object, **__: object) -> None:
    raise PermissionError(13, "Permission denied")


def test_a_cache_that_cannot_be_written_is_one_error(
    other_python: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "mkdir", forbidden)
    with pytest.raises(EngineError, match="cannot be made: Permission denied") as caught:
        worker_environment(other_python, "backends.mock")
    assert "XDG_CACHE_HOME" in caught.value.remedy
