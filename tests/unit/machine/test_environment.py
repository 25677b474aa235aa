from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pynvml
import pytest

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


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout of one commit with a tag and a file, which is the working directory."""
    (tmp_path / "file").write_text("one")
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", "file")
    git(tmp_path, "commit", "--quiet", "--message=first")
    git(tmp_path, "tag", "--annotate", "v1", "--message=v1")
    monkeypatch.chdir(tmp_path)
    return tmp_path


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
def test_the_revision_is_the_commit(checkout: Path) -> None:
    (checkout / "untracked").write_text("new")
    assert describe_environment().git_revision == git(checkout, "rev-parse", "HEAD")


@needs_git
def test_a_changed_file_makes_the_revision_dirty(checkout: Path) -> None:
    (checkout / "file").write_text("two, and longer")
    head = git(checkout, "rev-parse", "HEAD")
    assert describe_environment().git_revision == f"{head}+dirty"


@needs_git
def test_outside_a_checkout_there_is_no_revision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.chdir(tmp_path)
    assert describe_environment().git_revision is None


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
