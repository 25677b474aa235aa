"""`harness backends install`, and the runs that find what it made; nothing is downloaded."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[2]
PATIENCE_SECONDS = 180.0
BACKEND = '''
"""A backend whose engine is a package of one line."""
import importlib.util
from backends.api import Availability, Requirements
from backends.mock import FORMATS, OPTIONS, MockSession, open_tokenizer

def requirements(has_gpu):
    return Requirements(("tinyengine==1.0",))

def check():
    if importlib.util.find_spec("tinyengine") is None:
        return Availability(False, reason="no tinyengine", remedy="harness backends install tiny")
    return Availability(True, version="1.0", is_mock=True)

def open_session(model, options):
    import tinyengine
    return MockSession(model, options)
'''
BROKEN = '''
"""A backend that has all it needs and cannot run."""
from backends.api import Availability, Requirements

FORMATS, OPTIONS = ("none",), {}

def requirements(has_gpu):
    return Requirements(("pytest",))

def check():
    return Availability(False, reason="it is broken", remedy="mend it")
'''
# Makes an environment and installs nothing into it.
EMPTY_UV = """
import pathlib, sys
if sys.argv[1] == "venv":
    python = pathlib.Path(sys.argv[-1], "bin", "python")
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)
"""
# Hangs in the middle, with a child.
HANGING_UV = """
import pathlib, subprocess, sys, time
pathlib.Path(sys.argv[-1]).mkdir()
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print("begun", file=sys.stderr, flush=True)
time.sleep(600)
"""
SMALL = ("--voters", "1", "--queries", "2", "--calibration-queries", "2", "--max-model-len", "400")
QUICK = (*SMALL, "--no-baselines")


@dataclass(frozen=True, slots=True)
class Machine:
    """A user's folders, packages on disk instead of an index, no uv, and two backends more."""

    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        return os.environ | {
            "PATH": str(self.folder / "bin"),
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_FIND_LINKS": str(self.folder / "wheels"),
            "PIP_NO_INDEX": "1",
            "PYTHONPATH": str(self.folder / "site"),
            "XDG_CACHE_HOME": str(self.folder / "cache"),
            "XDG_DATA_HOME": str(self.folder / "data"),
        }

    @property
    def own(self) -> Path:
        """Where the environment of the backend `tiny` goes."""
        return self.folder / "data" / "llm-harness" / "backends" / "tiny"

    def run(self, *command: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", *command],
            capture_output=True,
            check=False,
            cwd=cwd or self.folder,
            env=self.environment,
            text=True,
            timeout=PATIENCE_SECONDS,
        )

    def harness(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.run("harness", *arguments)

    def begin_install(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "harness", "backends", "install", "tiny"],
            env=self.environment,
            stderr=subprocess.PIPE,
            text=True,
        )

    def put_uv(self, code: str) -> None:
        """A program of that name, of this Python code."""
        uv = self.folder / "bin" / "uv"
        uv.write_text(f"#!{sys.executable}\n{code}")
        uv.chmod(0o755)

    def put_wheel(self) -> None:
        """The engine, as a wheel that pip finds."""
        (self.folder / "wheels").mkdir(exist_ok=True)
        with zipfile.ZipFile(self.folder / "wheels/tinyengine-1.0-py3-none-any.whl", "w") as wheel:
            wheel.writestr("tinyengine.py", "")
            info = "tinyengine-1.0.dist-info"
            wheel.writestr(
                f"{info}/METADATA", "Metadata-Version: 2.1\nName: tinyengine\nVersion: 1.0\n"
            )
            wheel.writestr(
                f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
            )
            wheel.writestr(
                f"{info}/RECORD",
                f"tinyengine.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n",
            )


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    (tmp_path / "bin").mkdir()
    site = tmp_path / "site"
    info = site / "toys-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "tiny_backend.py").write_text(BACKEND)
    (site / "broken_backend.py").write_text(BROKEN)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toys\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[llm_harness.backends]\ntiny = tiny_backend\nbroken = broken_backend\n"
    )
    return Machine(tmp_path)


def test_installed_once_it_is_found_by_every_run(machine: Machine) -> None:
    machine.put_wheel()
    refused = machine.harness("run", "--backend", "tiny", *QUICK)
    assert refused.returncode == 1
    assert refused.stderr.endswith(
        "error: backend tiny: no tinyengine\ntry: harness backends install tiny\n"
    )

    first = machine.harness("backends", "install", "tiny")
    assert first.returncode == 0, first.stderr
    assert first.stdout == f"tiny 1.0 is installed in {machine.own}\n"
    assert "Successfully installed tinyengine-1.0" in first.stderr
    second = machine.harness("backends", "install", "tiny")
    assert second.returncode == 0
    assert second.stdout.startswith(f"tiny is there already, in {machine.own}")

    done = machine.harness("run", "--backend", "tiny", *QUICK, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["runs"][0]["cells"]["failed"] == 0

    [engine] = machine.own.glob("lib/python*/site-packages/tinyengine.py")
    shutil.rmtree(engine.parent)  # whole by its stamp, and damaged
    again = machine.harness("backends", "install", "tiny")
    assert again.returncode == 0, again.stderr
    assert "It cannot run: no tinyengine" in again.stderr
    assert again.stdout == f"tiny 1.0 is installed in {machine.own}\n"


def test_without_a_wheel_the_error_says_so(machine: Machine) -> None:
    done = machine.harness("backends", "install", "tiny")
    assert done.returncode == 1
    assert "error: there is no wheel for this platform" in done.stderr
    assert "No matching distribution found for tinyengine==1.0" in done.stderr.splitlines()[-2]
    assert done.stdout == ""
    assert not machine.own.exists()


def test_a_backend_that_needs_nothing_is_not_installed(machine: Machine) -> None:
    done = machine.harness("backends", "install", "mock")
    assert done.returncode == 0
    assert done.stdout == "mock needs no packages: there is nothing to install.\n"


def test_one_that_cannot_run_after_all_is_an_error(machine: Machine) -> None:
    machine.put_uv(EMPTY_UV)
    done = machine.harness("backends", "install", "tiny")
    assert done.returncode == 1
    assert f"tiny is installed in {machine.own} and cannot run: no tinyengine" in done.stderr


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_it_leaves_nothing(machine: Machine, number: int, code: int) -> None:
    machine.put_uv(HANGING_UV)
    # a shell starts background jobs with Ctrl-C ignored, which this test would hand on
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    installing = machine.begin_install()
    signal.signal(signal.SIGINT, handler)
    assert installing.stderr is not None
    while installing.stderr.readline() != "begun\n":
        assert installing.poll() is None
    assert machine.own.exists()
    programs = psutil.Process(installing.pid).children(recursive=True)
    installing.send_signal(number)
    installing.communicate(timeout=PATIENCE_SECONDS)
    assert installing.returncode == code
    assert not machine.own.exists()
    assert not psutil.wait_procs(programs, timeout=5)[1]


def test_a_run_without_its_engine_says_what_to_do_before_it_begins(machine: Machine) -> None:
    if importlib.util.find_spec("vllm"):
        pytest.skip("vLLM is in this very environment")
    done = machine.harness("run", "--backend", "vllm")
    assert done.returncode == 1
    assert done.stderr == (
        "error: backend vllm: vLLM is not installed\n"
        f"try: {sys.executable} -m harness backends install vllm\n"
    )


def test_the_conformance_suite_skips_loudly_for_want_of_a_wheel(machine: Machine) -> None:
    """Also where the tests run in processes of their own, as `make test` has them."""
    xdist = ("--numprocesses=1", "--dist=loadfile")
    done = machine.run("pytest", "tests/conformance", "-q", "-k", "tiny", *xdist, cwd=ROOT)
    assert done.returncode == 0, done.stdout
    assert "ENGINE NOT TESTED: TINY" in done.stdout
    assert "No matching distribution found for tinyengine==1.0" in done.stdout


def test_the_conformance_suite_fails_over_an_engine_that_could_run(machine: Machine) -> None:
    machine.put_wheel()
    for name, reason in (("broken", "it is broken. mend it"), ("tiny", "no tinyengine")):
        done = machine.run("pytest", "tests/conformance", "-q", "-x", "-k", name, cwd=ROOT)
        assert done.returncode == 1, done.stdout
        assert f"{name}: {reason}" in done.stdout
        assert "NOT TESTED" not in done.stdout
