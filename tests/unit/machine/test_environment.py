from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pynvml
import pytest

from harness.machine import environment
from harness.machine.environment import Environment, Gpu, describe_environment

needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    done = subprocess.run(
        ["git", "-C", str(folder), *identity, *arguments],
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.strip()


HOSTILE = """
[core]
    fsmonitor = {trap} fsmonitor
    hooksPath = {hooks}
    pager = {trap} pager
    editor = {trap} editor
    sshCommand = {trap} ssh
    alternateRefsCommand = {trap} refs
[alias]
    rev-parse = !{trap} alias
    ls-files = !{trap} alias
[diff]
    external = {trap} diff
[filter "trap"]
    clean = {trap} clean
    smudge = {trap} smudge
    process = {trap} process
    required = true
[include]
    path = {more}
"""


@dataclass(frozen=True, slots=True)
class Hostile:
    """A repository whose config has git run a program for everything that it can run one for."""

    folder: Path
    sprung: Path

    @property
    def head(self) -> str:
        return git(self.folder, "-c", "core.fsmonitor=false", "rev-parse", "HEAD")


def make_hostile(folder: Path, beside: Path) -> Hostile:
    """Every file that is there is tracked, has a filter, and was changed since."""
    beside.mkdir()
    sprung, trap, hooks = beside / "sprung", beside / "trap", beside / "hooks"
    git(folder, "init", "--quiet")
    git(folder, "add", "--all", "--force")
    git(folder, "commit", "--quiet", "--message=first")
    trap.write_text(f'#!/bin/sh\necho "$@" >> {sprung}\n')
    trap.chmod(0o755)
    hooks.mkdir()
    for name in ("post-index-change", "reference-transaction", "fsmonitor-watchman"):
        (hooks / name).symlink_to(trap)
    (folder / ".gitattributes").write_text("* filter=trap diff=trap\n")
    more = beside / "more"
    more.write_text(f"[core]\n    fsmonitor = {trap} included\n")
    config = folder / ".git" / "config"
    config.write_text(config.read_text() + HOSTILE.format(trap=trap, hooks=hooks, more=more))
    for file in folder.rglob("*.py"):
        file.write_text(file.read_text() + "\n")
    return Hostile(folder, sprung)


def installed(folder: Path) -> str:
    """What the harness that lies in a folder says of its revision."""
    asks = "from harness.machine import environment as e; print(e.describe_environment()"
    done = subprocess.run(
        [sys.executable, "-P", "-c", f"{asks}.git_revision, e.__file__)"],
        check=True,
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(folder)},
        text=True,
    )
    revision, file = done.stdout.split()
    assert Path(file).is_relative_to(folder)
    return revision


def copy_package(folder: Path) -> None:
    source = Path(environment.__file__).parents[2]
    for name in ("harness", "backends", "prompts"):
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(source / name, folder / name, ignore=ignore)


@pytest.fixture
def no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise pynvml.NVMLError_LibraryNotFound

    monkeypatch.setattr(pynvml, "nvmlInit", fail)


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second has no memory of its own."""

    def memory(handle: int) -> SimpleNamespace:
        if handle == 1:
            raise pynvml.NVMLError_NotSupported
        return SimpleNamespace(total=80 * 2**30)

    monkeypatch.setattr(pynvml, "nvmlInit", lambda: None)
    monkeypatch.setattr(pynvml, "nvmlShutdown", lambda: None)
    monkeypatch.setattr(pynvml, "nvmlSystemGetDriverVersion", lambda: "550.1")
    monkeypatch.setattr(pynvml, "nvmlDeviceGetCount", lambda: 2)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByIndex", lambda index: index)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetName", lambda handle: f"card {handle}")
    monkeypatch.setattr(pynvml, "nvmlDeviceGetMemoryInfo", memory)


def test_the_machine_is_described() -> None:
    environment = describe_environment()
    assert environment.created.endswith("+00:00")
    assert environment.python.endswith(platform.python_version())
    assert environment.cpu
    assert environment.memory_mib > 0
    assert environment.logical_cores == os.cpu_count()
    assert environment.usable_cores
    assert environment.usable_cores <= (environment.logical_cores or 0)


def test_it_goes_through_json_unchanged() -> None:
    environment = describe_environment()
    assert Environment.model_validate_json(environment.model_dump_json()) == environment


def test_it_does_not_tell_whose_machine_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "node", lambda: "name-of-the-host")
    monkeypatch.setenv("API_KEY", "a-secret-value")
    text = describe_environment().model_dump_json()
    assert "name-of-the-host" not in text
    assert "a-secret-value" not in text


def test_packages_have_versions() -> None:
    packages = describe_environment().packages
    assert {"llm-backend-harness", "numpy", "scikit-learn"} <= packages.keys()
    assert all(re.match(r"\d+\.\d+", version) for version in packages.values())


def test_a_package_that_is_not_installed_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.machine.environment.PACKAGES", ("numpy", "no-such-package"))
    assert describe_environment().packages.keys() == {"numpy"}


@needs_git
def test_the_revision_is_that_of_the_clone_that_the_harness_is_in(tmp_path: Path) -> None:
    copy_package(tmp_path)
    (tmp_path / "pyproject.toml").write_text("")
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", "--all")
    git(tmp_path, "commit", "--quiet", "--message=first")
    git(tmp_path, "tag", "--annotate", "v1", "--message=v1")
    (tmp_path / "pyproject.toml").write_text("changed")
    assert installed(tmp_path) == git(tmp_path, "rev-parse", "HEAD")


@needs_git
def test_a_hostile_repository_in_the_working_directory_is_not_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "data.py").write_text("")
    hostile = make_hostile(data, tmp_path / "beside")
    monkeypatch.chdir(data)
    monkeypatch.setenv("GIT_DIR", str(data / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(data))
    assert describe_environment().git_revision != hostile.head
    assert not hostile.sprung.exists()
    subprocess.run(["git", "describe", "--always", "--dirty"], check=False, capture_output=True)
    assert hostile.sprung.exists()  # it is hostile indeed


@needs_git
@pytest.mark.parametrize("inner", ["lib/site-packages", "."])
def test_a_hostile_repository_around_an_installed_harness_is_not_its_own(
    tmp_path: Path, inner: str
) -> None:
    """Neither around site-packages nor in it, even where it tracks the package."""
    root = tmp_path / "project"
    packages = root / inner
    packages.mkdir(parents=True)
    copy_package(packages)
    hostile = make_hostile(root, tmp_path / "beside")
    assert installed(packages) == "None"
    assert not hostile.sprung.exists()


@needs_git
def test_a_hostile_clone_of_the_project_runs_nothing(tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    clone.mkdir()
    copy_package(clone)
    (clone / "pyproject.toml").write_text("")
    hostile = make_hostile(clone, tmp_path / "beside")
    assert installed(clone) == hostile.head
    assert not hostile.sprung.exists()


@needs_git
def test_a_clone_that_does_not_track_the_harness_is_not_its_own(tmp_path: Path) -> None:
    copy_package(tmp_path)
    (tmp_path / "pyproject.toml").write_text("")
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", "pyproject.toml")
    git(tmp_path, "commit", "--quiet", "--message=first")
    assert installed(tmp_path) == "None"


def test_a_program_in_the_working_directory_is_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("git", "sysctl"):
        (tmp_path / name).write_text(f"#!/bin/sh\ntouch {tmp_path}/sprung\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f".{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(environment, "_cpuinfo_name", lambda: None)
    describe_environment()
    assert not (tmp_path / "sprung").exists()


def test_without_git_there_is_no_revision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda program: None)
    assert describe_environment().git_revision is None


def test_a_command_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(command: list[str], **options: object) -> None:
        raise subprocess.TimeoutExpired(command, 1.0)

    monkeypatch.setattr(subprocess, "run", hang)
    assert describe_environment().git_revision is None


@pytest.mark.usefixtures("no_driver")
def test_without_a_driver_there_are_no_gpus() -> None:
    assert describe_environment().gpus == []


@pytest.mark.usefixtures("two_gpus")
def test_gpus_are_listed() -> None:
    assert describe_environment().gpus == [
        Gpu(name="card 0", memory_mib=81920, driver="550.1"),
        Gpu(name="card 1", memory_mib=None, driver="550.1"),
    ]


@pytest.mark.usefixtures("two_gpus")
def test_a_gpu_that_fails_costs_the_list_only(monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(handle: int) -> str:
        raise pynvml.NVMLError_GpuIsLost

    monkeypatch.setattr(pynvml, "nvmlDeviceGetName", lost)
    assert describe_environment().gpus == []
