"""Making an environment for a backend, with a uv that only notes what it was asked to do."""

from __future__ import annotations

import shlex
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from backends.api import Requirements
from harness.engine.install import install, is_current, missing_wheel
from harness.engine.interpreters import find_interpreter, own_environment
from harness.errors import EngineError

WANTED = Requirements(("engine==1", "helper>=2"), unwanted=("spoiler",))
UV = """#!/bin/sh
echo "$@" >> {log}
[ -z "$PYTHONPATH" ] || exit 9
if [ "$1" = venv ]; then
    mkdir -p "$4/bin" && ln -s {python} "$4/bin/python"
else
    {rest}
fi
"""


@dataclass(frozen=True, slots=True)
class FakeUv:
    """A program `uv` in a folder, and the notes it takes."""

    folder: Path

    def behave(self, rest: str = ":") -> None:
        """`rest` is what its `uv pip` does, in shell."""
        program = self.folder / "uv"
        log = shlex.quote(str(self.folder / "log"))
        program.write_text(UV.format(log=log, python=shlex.quote(sys.executable), rest=rest))
        program.chmod(0o755)

    @property
    def calls(self) -> Sequence[str]:
        log = self.folder / "log"
        return log.read_text().splitlines() if log.exists() else ()


@pytest.fixture
def uv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeUv:
    folder = tmp_path / "bin"
    folder.mkdir()
    fake = FakeUv(folder)
    fake.behave()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    return fake


def silent(_: str) -> None:
    pass


def made(
    wanted: Requirements = WANTED,
    tell: Callable[[str], None] = silent,
    can_run: Callable[[], bool] = lambda: True,
) -> bool:
    return install("tiny", wanted, tell, can_run)


def test_it_is_made_filled_and_rid_of_what_is_unwanted(uv: FakeUv) -> None:
    assert made()
    own = own_environment("tiny")
    assert uv.calls == [
        f"venv --python {sys.executable} {own.folder}",
        f"pip install --python {own.python} engine==1 helper>=2",
        f"pip uninstall --python {own.python} spoiler",
    ]
    assert own.is_whole
    assert find_interpreter("tiny", None) == str(own.python)


def test_where_nothing_is_unwanted_nothing_is_removed(uv: FakeUv) -> None:
    made(Requirements(("engine==1",)))
    assert [call.split()[1] for call in uv.calls[1:]] == ["install"]


def test_what_is_there_is_left_alone(uv: FakeUv) -> None:
    said: list[str] = []
    made(WANTED, said.append)
    before = uv.calls
    assert not made(WANTED, said.append)
    assert uv.calls == before
    assert said == [f"Installing engine==1, helper>=2 into {own_environment('tiny').folder}"]


def test_what_is_there_and_cannot_run_is_made_again(uv: FakeUv) -> None:
    made()
    damaged = own_environment("tiny").folder / "damaged"
    damaged.touch()
    assert made(can_run=lambda: False)
    assert not damaged.exists()
    assert own_environment("tiny").is_whole


def test_one_made_for_other_requirements_is_not_current(uv: FakeUv) -> None:
    made()
    own = own_environment("tiny")
    assert is_current(own, WANTED)
    assert not is_current(own, Requirements(("engine==2",)))
    own.stamp.write_bytes(b"\xff")
    assert not is_current(own, WANTED)


def test_with_other_requirements_it_is_made_anew(uv: FakeUv) -> None:
    made()
    old = own_environment("tiny").folder / "old"
    old.touch()
    assert made(Requirements(("engine==2",)))
    assert not old.exists()


def test_without_its_stamp_it_counts_for_nothing(uv: FakeUv) -> None:
    made()
    own_environment("tiny").stamp.unlink()
    assert find_interpreter("tiny", None) == sys.executable
    assert made()


def test_a_step_that_fails_is_named_and_leaves_nothing(
    uv: FakeUv, capfd: pytest.CaptureFixture[str]
) -> None:
    uv.behave("echo downloading; echo no room >&2; exit 4")
    with pytest.raises(EngineError, match=r"exit code 4: .*uv pip install --python"):
        made()
    assert not own_environment("tiny").folder.exists()
    out, told = capfd.readouterr()
    assert (out, sorted(told.splitlines())) == ("", ["downloading", "no room"])


def test_half_of_a_new_one_is_not_taken_for_the_old_one(uv: FakeUv) -> None:
    made()
    uv.behave("exit 4")
    with pytest.raises(EngineError):
        made(Requirements(("engine==2",)))
    assert find_interpreter("tiny", None) == sys.executable


def test_a_missing_wheel_is_said_plainly(uv: FakeUv) -> None:
    uv.behave("echo '  cause: Because engine==1 has no usable wheels' >&2; exit 1")
    with pytest.raises(EngineError, match=r"no wheel for this platform .*engine==1"):
        made()


def test_two_at_once_make_it_once(uv: FakeUv, tmp_path: Path) -> None:
    go_on, waiting = tmp_path / "go_on", threading.Event()
    uv.behave(f"while [ ! -e {shlex.quote(str(go_on))} ]; do sleep 0.05; done")
    results: list[bool] = []
    told: list[str] = []

    def begin(tell: str) -> None:
        told.append(tell)
        if tell.startswith("Waiting"):
            waiting.set()

    threads = [
        threading.Thread(target=lambda: results.append(made(WANTED, begin))) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    assert waiting.wait(30)
    go_on.touch()
    for thread in threads:
        thread.join(30)
    assert sorted(results) == [False, True]
    assert [tell.split()[0] for tell in told].count("Installing") == 1


def test_a_folder_that_cannot_be_written_is_an_error(
    uv: FakeUv, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "file"))
    with pytest.raises(EngineError, match="environment of tiny cannot be made") as caught:
        made()
    assert "XDG_DATA_HOME" in caught.value.remedy


@pytest.mark.parametrize(
    ("said", "line"),
    [
        ("ERROR: No matching distribution found for a==1", True),
        ("  cause: Because a==1 has no wheels with a matching platform tag (e.g., `x`)", True),
        ("  cause: Because a==1 has no usable wheels and you require a==1", True),
        ("ERROR: ResolutionImpossible: for help visit", False),
        ("error: No solution found when resolving dependencies\n  cause: Because a>2", False),
        ("error: Failed to fetch: `http://127.0.0.1:1/simple/a/`", False),
    ],
)
def test_a_missing_wheel_is_told_from_other_failures(said: str, line: bool) -> None:
    assert missing_wheel(f"WARNING: x\n{said}\nhint: y\n") == (said.strip() if line else None)


def test_without_a_network_no_wheel_is_missing() -> None:
    said = (
        "WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError': /a/\n"
        "ERROR: No matching distribution found for a\n"
    )
    assert missing_wheel(said) is None
