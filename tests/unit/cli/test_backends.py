from __future__ import annotations

import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from backends import mock
from backends.api import NO_FILES, Availability, Requirements
from harness.cli.backends import backends, check, interpreters
from harness.engine.install import _stamp
from harness.engine.interpreters import own_environment
from harness.engine.registry import Registered, registered_backends


def test_the_mock_runs_anywhere_and_is_called_a_mock() -> None:
    found = check(Registered("pretender", "backends.mock"))
    assert found.available
    assert found.mock
    assert found.formats == (NO_FILES,)
    assert found.version


@pytest.mark.parametrize("target", ["backends.nowhere", "backends.mock:nothing"])
def test_a_broken_registration_is_told_not_raised(target: str) -> None:
    found = check(Registered("broken", target))
    assert not found.available
    assert "broken cannot be imported" in found.reason
    assert found.remedy


def test_the_interpreter_that_a_run_would_use_is_told() -> None:
    assert check(Registered("pretender", "backends.mock")).python == sys.executable


def test_the_interpreter_of_a_config_is_the_one_that_is_checked(tmp_path: Path) -> None:
    config = tmp_path / "run.toml"
    config.write_text(
        f'[backends.mock]\npython = "{sys.executable}"\n[backends.vllm]\npython = "/no/python"\n'
    )
    registered = registered_backends()
    found = dict(
        zip([one.name for one in registered], interpreters(str(config), registered), strict=True)
    )
    assert found["mock"] == sys.executable
    assert found["llama-cpp"] is None
    vllm = check(Registered("vllm", "backends.vllm.backend"), found["vllm"])
    assert (vllm.available, vllm.python) == (False, "/no/python")
    assert "there is no interpreter /no/python" in vllm.reason


@pytest.mark.parametrize("text", ["backends = 3", "[backends]\nmock = 3", "voters = 2"])
def test_a_config_that_names_no_interpreter_is_no_error(tmp_path: Path, text: str) -> None:
    config = tmp_path / "run.toml"
    config.write_text(text)
    registered = registered_backends()
    assert interpreters(str(config), registered) == [None] * len(registered)


@pytest.mark.parametrize("is_current", [True, False])
def test_an_environment_made_for_other_requirements_is_named_with_what_renews_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_current: bool
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    own = own_environment("pretender")
    own.python.parent.mkdir(parents=True)
    own.python.symlink_to(sys.executable)
    own.stamp.write_text(_stamp(Requirements(("engine==1",))))
    wanted = Requirements(("engine==1" if is_current else "engine==2",))
    monkeypatch.setattr(mock, "requirements", lambda _: wanted)
    found = check(Registered("pretender", "backends.mock"))
    assert found.available
    assert (str(own.folder) in found.reason) is not is_current
    assert found.remedy.endswith("backends install pretender") is not is_current


def test_build_devices_and_what_would_change_them_are_listed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    command = "CMAKE_ARGS=-DGGML_CUDA=on /a/long/path/to/python -m pip install " + "x" * 80
    sees_none = Availability(
        True, "1", build="CPU", devices=("CPU: Zen",), change=f"Build it again: {command}"
    )
    monkeypatch.setattr("harness.engine.session.check_backend", lambda *_: sees_none)
    monkeypatch.setattr(
        "harness.engine.registry.registered_backends",
        lambda: (Registered("one", "backends.mock"), Registered("broken", "no.such.module")),
    )
    done = CliRunner().invoke(backends, [], env={"COLUMNS": "80"})
    lines = [line.rstrip() for line in done.stdout.splitlines()]
    assert lines[2].split() == ["one", "yes", "1", "none", "CPU", "CPU:", "Zen"]
    assert lines[3].split() == ["broken", "no"]  # and costs no other its row
    assert any(line.strip() == command for line in lines)
    records = CliRunner().invoke(backends, ["--format", "csv"]).stdout.splitlines()
    assert records[0].endswith("python,reason,remedy,build,devices,change")
