"""A server that we start is waited for, measured, and gone whatever ends the run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from backends import stages
from backends.api import BackendError, ModelRef
from backends.server import managed
from backends.server.managed import (
    ManagedServer,
    ManagedSession,
    check_command,
    filled,
    free_port,
)
from harness.engine.process import ProcessTransport
from harness.engine.session import EngineSession
from harness.errors import EngineError
from tests.fakes.server import Fake
from tests.unit.backends.server.conftest import BYTES, Open

SERVER = Path(__file__).parent / "plain_server.py"
VALUES = {"model": "a b/m.gguf", "port": 81, "threads": 2, "context": 512}


def test_placeholders_are_filled_in_wherever_they_stand() -> None:
    command = ["s", "-m", "{model}", "--port={port}", "-t{threads}", "{context}", '{{"a": {port}}}']
    assert filled(command, VALUES) == [
        "s", "-m", "a b/m.gguf", "--port=81", "-t2", "512", '{"a": 81}',
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("part", "said"),
    [
        ("{home}", "command has {home}"),
        ("{port:>9}", "command has {port:>9}"),
        ("{port!r}", "command has {port!r}"),
        ("{model.__class__}", "command has {model.__class__}"),
        ("{0}", "command has {0}"),
        ("{}", "command has {}"),
        ('{"a": 1}', 'command has {"a": 1}'),
        ("{port", "'{port' has a brace without its other half"),
        ("}", "'}' has a brace without its other half"),
    ],
)
def test_anything_else_in_braces_is_refused(part: str, said: str) -> None:
    with pytest.raises(BackendError) as caught:
        check_command(["server", "{port}", part])
    assert said in str(caught.value)
    assert "{{" in caught.value.remedy


def test_a_command_has_to_take_the_port() -> None:
    with pytest.raises(BackendError, match="where the port goes"):
        check_command(["server", "-m", "{model}"])


@contextmanager
def started(*ways: str) -> Iterator[ManagedServer]:
    port = free_port()
    server = ManagedServer([sys.executable, str(SERVER), str(port), *ways], port, {})
    try:
        yield server
    finally:
        server.close()
        assert not server.is_running


@pytest.mark.parametrize("ways", [("slow",), ("no-health",)])
def test_it_is_waited_for_and_says_what_it_does(ways: tuple[str, ...]) -> None:
    said: list[str] = []
    with started(*ways) as server, stages.heard_by(said.append):
        server.wait_until_ready()
        path = "/v1/models" if "no-health" in ways else "/health"
        with urllib.request.urlopen(server.url + path, timeout=5) as answer:
            assert answer.status == 200
    if "slow" in ways:
        assert said[-1] == f"{Path(sys.executable).name}: loading [1mthe model"


def test_one_that_ends_early_says_why_in_its_last_words() -> None:
    with started("fails") as server, pytest.raises(BackendError) as caught:
        server.wait_until_ready()
    assert "ended with exit code 7: loading" in str(caught.value)
    assert str(caught.value).endswith("| error: the model is not there")
    assert "\x1b" not in str(caught.value)


def test_a_program_that_is_not_there_is_named() -> None:
    with pytest.raises(BackendError, match="no-such-server cannot be started: No such file"):
        ManagedServer(["no-such-server"], 1, {})


def test_one_that_does_not_want_to_end_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(managed, "_CLOSE_SECONDS", 0.3)
    with started("deaf") as server:
        server.wait_until_ready()


def test_its_output_is_bounded_and_its_last_words_are_stored(
    capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(managed, "MOST_LOG_BYTES", 10_000)
    with started("wordy") as server:
        server.wait_until_ready()
    stored = capfdbinary.readouterr().out
    assert b"line 0 " in stored
    assert b"line 15000 " not in stored
    assert b"more than is stored" in stored
    assert b"/health" in stored.splitlines()[-1]  # of its last request
    assert len(stored) < 10_000 + 2 * managed._LAST_LINES * 200


BACKEND = f"""
    import sys
    from backends import mock
    from backends.server.managed import ManagedServer, free_port

    def open_session(model, options):
        port = free_port()
        ways = model.name.split()
        server = ManagedServer([sys.executable, {str(SERVER)!r}, str(port), *ways], port, {{}})
        server.wait_until_ready()
        return Session(model, options, server)

    class Session(mock.MockSession):
        def __init__(self, model, options, server):
            super().__init__(model, options)
            self.server = server

        def close(self):
            self.server.close()
"""


@pytest.fixture
def backend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "starts_one.py").write_text(textwrap.dedent(BACKEND), encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    return "starts_one"


def opened(backend: str, folder: Path, ways: str) -> tuple[EngineSession, ProcessTransport]:
    transport = ProcessTransport(backend, 60.0, folder / "engine.log")
    model = ModelRef(ways, "none", "")
    return EngineSession(transport, backend, model, {"max_model_len": 100}), transport


def test_its_memory_is_measured_and_its_log_stored(backend: str, tmp_path: Path) -> None:
    session, transport = opened(backend, tmp_path, "memory")
    assert session.info.engine
    time.sleep(1.5)  # the descendants are listed once a second
    children = psutil.Process(transport._process.pid).children(recursive=True)
    session.close()
    assert session.peak.rss_mib
    assert session.peak.rss_mib > 200
    assert "loading" in (tmp_path / "engine.log").read_text()
    assert children
    assert not any(child.is_running() for child in children)


def test_one_that_ends_early_costs_the_opening_and_is_not_tried_again(
    backend: str, tmp_path: Path
) -> None:
    session, _ = opened(backend, tmp_path, "fails")
    with pytest.raises(EngineError, match="error: the model is not there"):
        _ = session.info
    session.close()


def test_children_that_outlive_it_end_with_the_worker(backend: str, tmp_path: Path) -> None:
    session, transport = opened(backend, tmp_path, "children")
    _ = session.info
    tree = psutil.Process(transport._process.pid).children(recursive=True)
    assert len(tree) == 2
    session.close()
    assert not psutil.wait_procs(tree, timeout=10)[1]


HARNESS = """
    import signal, sys, time
    from pathlib import Path
    from backends.api import ModelRef
    from harness.engine.process import ProcessTransport
    from harness.engine.session import EngineSession

    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # which nohup ignores, for the tests too
    folder, backend = sys.argv[1:]
    transport = ProcessTransport(backend, 300.0, Path(folder) / "engine.log")
    model = ModelRef("children deaf", "none", "")
    session = EngineSession(transport, backend, model, {"max_model_len": 100})
    session.info
    print(transport._process.pid, flush=True)
    time.sleep(600)
"""


def kill_worker(harness: psutil.Process, worker: psutil.Process) -> None:
    """The harness notices when it next looks; this one never does, and is killed later."""
    worker.kill()
    harness.kill()


def kill_both_at_once(harness: psutil.Process, worker: psutil.Process) -> None:
    harness.suspend()  # neither can do anything about the other's end
    worker.suspend()
    worker.kill()
    harness.kill()


def kill_harness(harness: psutil.Process, worker: psutil.Process) -> None:
    harness.kill()


def hang_up(harness: psutil.Process, worker: psutil.Process) -> None:
    harness.send_signal(signal.SIGHUP)


@pytest.mark.parametrize("end", [kill_worker, kill_both_at_once, kill_harness, hang_up])
def test_nothing_of_it_is_left_whatever_is_killed(
    backend: str, tmp_path: Path, end: Callable[[psutil.Process, psutil.Process], None]
) -> None:
    harness = psutil.Popen(
        [sys.executable, "-c", textwrap.dedent(HARNESS), str(tmp_path), backend],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert harness.stdout is not None
    worker = psutil.Process(int(harness.stdout.readline()))
    tree = [worker, *worker.children(recursive=True)]
    assert len(tree) == 3
    end(harness, worker)
    _, left = psutil.wait_procs(tree, timeout=10)
    for process in left:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    harness.kill()
    harness.wait()
    harness.stdout.close()
    assert not left


def test_where_one_that_we_started_computes_is_said(opened: Open) -> None:
    session, _ = opened(Fake("vllm"))
    with started() as server:
        info = ManagedSession(session, server, BYTES, {"threads": 3}).info
    assert (info.device, info.threads, info.capabilities.location) == ("this machine", 3, "local")
