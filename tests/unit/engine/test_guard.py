"""A harness that is killed leaves no process of a worker's group behind, whatever that is doing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from harness.engine import guard as guard_module
from harness.engine.guard import Guard
from harness.errors import EngineError

# A backend that stops where its model's name says. To match a regular expression holds Python's
# lock: no thread of the worker runs meanwhile, and no handler of a signal.
STUCK = r"""
    import os, re, signal, time
    from backends import mock

    def stick(holds_lock):
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        print("stuck", flush=True)
        if holds_lock:
            re.match(r"(a+)+b", "a" * 60)
        time.sleep(600)

    def open_session(model, options):
        if model.name == "loading":
            stick(holds_lock=True)
        return Session(model, options)

    class Session(mock.MockSession):
        def generate(self, prompts, decoding):
            if self.info.model == "children" and os.fork() == 0:
                if os.fork() == 0:
                    stick(holds_lock=False)
                stick(holds_lock=True)
            if self.info.model in ("hanging", "children"):
                stick(holds_lock=self.info.model == "hanging")
            for event in super().generate(prompts, decoding):
                print("prompting", flush=True)
                yield event
"""

HARNESS = """
    import sys
    from pathlib import Path
    from backends.api import Decoding, ModelRef, Prompt
    from harness.engine.process import ProcessTransport
    from harness.engine.session import EngineSession

    folder, phase = sys.argv[1:]
    session = EngineSession(
        ProcessTransport("stuck", 300.0, Path(folder) / "engine.log"),
        "stuck",
        ModelRef(phase, "none", ""),
        {"max_model_len": 100, "delay_ms": 20},
    )
    for event in session.generate([Prompt([i]) for i in range(2000)], Decoding("score", ((1,),))):
        pass
"""


@pytest.fixture
def group() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "600"], start_new_session=True) as process:
        yield process
        process.kill()


def processes_of(group: int) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            is_member = os.getpgid(process.pid) == group
        except ProcessLookupError:
            continue
        if is_member and process.status() != psutil.STATUS_ZOMBIE:
            found.append(process)
    return found


def wait_until_gone(group: int) -> bool:
    give_up = time.monotonic() + 10
    while processes_of(group) and time.monotonic() < give_up:
        time.sleep(0.05)
    return not processes_of(group)


@pytest.mark.parametrize("phase", ["loading", "prompting", "hanging", "children"])
def test_a_harness_that_is_killed_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, phase: str
) -> None:
    (tmp_path / "stuck.py").write_text(textwrap.dedent(STUCK), encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    harness = psutil.Popen(
        [sys.executable, "-c", textwrap.dedent(HARNESS), str(tmp_path), phase],
        start_new_session=True,
    )
    log, wanted = tmp_path / "engine.log", 3 if phase == "children" else 1
    give_up = time.monotonic() + 30
    while time.monotonic() < give_up:
        if log.exists() and len(log.read_text().split()) >= wanted:
            break
        time.sleep(0.05)
    [worker] = harness.children()
    assert os.getpgid(worker.pid) == worker.pid
    scratch = Path(worker.environ()["TMPDIR"])
    (scratch / "left behind").touch()
    assert len(processes_of(worker.pid)) == wanted
    harness.send_signal(signal.SIGKILL)
    harness.wait()
    assert wait_until_gone(worker.pid)
    give_up = time.monotonic() + 10
    while scratch.exists() and time.monotonic() < give_up:
        time.sleep(0.05)
    assert not scratch.exists()


def test_a_guard_that_is_released_kills_nothing_and_ends(
    group: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    before = {child.pid for child in psutil.Process().children()}
    guard = Guard(group.pid, tmp_path)
    assert {child.pid for child in psutil.Process().children()} == before  # it is nobody's
    guard.release()
    with pytest.raises(subprocess.TimeoutExpired):
        group.wait(0.3)
    assert tmp_path.exists()


def test_a_guard_kills_where_its_pipe_ends_without_a_word(
    group: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    guard = Guard(group.pid, tmp_path / "none")
    os.close(guard._ours)
    assert group.wait(10) == -signal.SIGKILL


def test_a_shell_that_does_not_start_is_an_error(
    group: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard_module, "_WAIT", "exit 3")
    descriptors = psutil.Process().num_fds()
    with pytest.raises(EngineError, match=r"did not start: .* exit status 3"):
        Guard(group.pid, Path())
    assert psutil.Process().num_fds() == descriptors
