"""Workers that answer, crash, hang, print and leave children: each costs only what it has to."""

from __future__ import annotations

import os
import signal
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import psutil
import pytest

from backends.api import Batch, Decoding, Event, ModelRef, Started
from harness.engine.session import EngineSession, WorkerLostError, check_backend
from harness.errors import EngineError

MODEL = ModelRef("toy", "mock", "")
SCORE = Decoding("score", ((1,), (2,)))
PROMPTS = [[i] for i in range(1, 21)]

Start: TypeAlias = Callable[..., EngineSession]

# A backend that does what its model's name says.
ODD = """
    import os, signal, subprocess, sys, time
    from multiprocessing import parent_process
    from backends import mock
    from backends.api import Availability, Batch, Reply, Started

    FORMATS, OPTIONS = mock.FORMATS, mock.OPTIONS

    def check():
        raise OSError("no such device")

    def open_session(model, options):
        if model.name == "dies loading":
            os._exit(7)
        if model.name == "bug loading":
            raise ZeroDivisionError("by zero")
        if model.name == "unloadable":
            raise mock.BackendError("no weights", "Get some.")
        if model.name == "noisy":
            print("garbage " * 1000, flush=True)
            os.write(1, b"\\xff\\x00{}\\n")
            os.write(2, b"more\\n")
        return Session(model, options)

    class Session(mock.MockSession):
        def __init__(self, model, options):
            super().__init__(model, options)
            self.name = model.name
            if self.name == "parent":
                subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])

        def tokenize(self, texts):
            if self.name == "dies tokenizing":
                os.kill(os.getpid(), signal.SIGSEGV)
            return super().tokenize(texts)

        def generate(self, prompts, decoding):
            if self.name == "noisy":
                print("still noisy", flush=True)
            if self.name == "torn":
                descriptor = int(sys.argv[1])
                os.write(descriptor, (1000).to_bytes(4, "big") + b'{"event"')
                os._exit(0)
            if self.name == "bug":
                yield Started((0, 1))
                yield Batch((Reply(0, "scored", 1),), 0.0, 0, 0.0, 0, 0.0)
                raise ZeroDivisionError("by zero")
            yield from super().generate(prompts, decoding)
"""


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Starts sessions of the mock, or of the odd backend if a name says how it is odd."""
    (tmp_path / "odd_backend.py").write_text(textwrap.dedent(ODD), encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    opened: list[EngineSession] = []

    def begin(
        odd: str = "", target: str = "", timeout_seconds: float = 30.0, **options: Any
    ) -> EngineSession:
        session = EngineSession(
            target or ("odd_backend" if odd else "backends.mock"),
            ModelRef(odd, "mock", "") if odd else MODEL,
            {"max_model_len": 100, **options},
            timeout_seconds,
            tmp_path / "logs" / "engine.log",
        )
        opened.append(session)
        return session

    yield begin
    for session in opened:
        session.kill()


def lose(session: EngineSession) -> tuple[WorkerLostError, list[Event]]:
    """The loss that ends the answer, and the events before it."""
    events: list[Event] = []
    with pytest.raises(WorkerLostError) as caught:
        events.extend(session.generate(PROMPTS, SCORE))
        pytest.fail("the worker was not lost")
    return caught.value, events


def still_there(processes: list[psutil.Process]) -> list[psutil.Process]:
    return list(psutil.wait_procs(processes, timeout=5)[1])


def worker() -> psutil.Process:
    [one] = psutil.Process().children()
    return one


def test_a_worker_loads_tokenizes_and_answers(start: Start) -> None:
    session = start()
    assert session.info.is_mock
    assert session.tokenize(["ab", "", "abc<eos>"]) == [[97, 98], [], [97, 98, 99, 257]]
    for _ in range(2):
        batches = [e for e in session.generate(PROMPTS, SCORE) if isinstance(e, Batch)]
        replies = sorted(reply.prompt for batch in batches for reply in batch.replies)
        assert replies == list(range(20))
    assert session.engine_seconds >= session.load_seconds > 0


def test_a_worker_forgets_what_it_is_told_to(start: Start) -> None:
    session = start()

    def computed() -> int:
        batches = [e for e in session.generate([[1, 2, 3]], SCORE) if isinstance(e, Batch)]
        return sum(batch.prefill_tokens for batch in batches)

    assert (computed(), computed()) == (3, 0)
    session.forget()
    assert computed() == 3


def test_a_worker_that_is_lost_cannot_forget(start: Start) -> None:
    session = start(crash_at=1)
    lose(session)
    with pytest.raises(EngineError, match="lost while it forgot earlier prompts"):
        session.forget()


def test_whoever_leaves_an_answer_early_ends_the_worker(start: Start) -> None:
    session = start(delay_ms=50)
    assert session.info.is_mock
    assert not session.is_lost
    process = worker()
    for _ in session.generate(PROMPTS, SCORE):
        break
    assert session.is_lost
    assert not still_there([process])
    lost, events = lose(session)
    assert (lost.reason, events) == ("it was ended before", [])


def test_what_is_left_of_an_answer_is_never_taken_for_the_next(start: Start) -> None:
    """The iterator is still there, as that of a failed test is in its traceback."""
    session = start(delay_ms=50)
    left = session.generate(PROMPTS, SCORE)
    next(left)
    assert session.is_lost
    with pytest.raises(EngineError, match="lost while it tokenized: it was ended before"):
        session.tokenize(["a"])
    with pytest.raises(EngineError, match="lost while it forgot"):
        session.forget()
    with pytest.raises(WorkerLostError):
        next(left)


def test_to_close_in_mid_answer_waits_for_nothing(start: Start) -> None:
    """The engine would hang for as long as closing waits, ten seconds."""
    session = start(hang_at=12)
    left = session.generate(PROMPTS, SCORE)
    next(left)
    session.close()
    assert session.closing_seconds < 5


def test_a_worker_leads_a_process_group_of_its_own(start: Start) -> None:
    assert start().info.is_mock
    assert os.getpgid(worker().pid) == worker().pid != os.getpgid(0)


def test_a_crash_costs_what_was_begun(start: Start) -> None:
    lost, events = lose(start(crash_at=12))
    batches = [event for event in events if isinstance(event, Batch)]
    assert sum(len(batch.replies) for batch in batches) == 8
    assert len(lost.open_prompts) == 8
    assert "signal 9" in lost.reason


def test_a_hang_ends_at_the_deadline(start: Start) -> None:
    session = start(hang_at=12, timeout_seconds=1.0)
    process = worker()
    lost, _ = lose(session)
    assert "no sign of life for 1 s" in lost.reason
    assert session.engine_seconds >= 1.0  # the wait is the engine's, not the harness's
    assert len(lost.open_prompts) == 8
    assert not still_there([process])


def test_a_bug_of_the_engine_costs_what_was_begun_and_is_told(start: Start, tmp_path: Path) -> None:
    lost, _ = lose(start("bug"))
    assert lost.open_prompts == (1,)
    assert lost.reason == "the engine failed: ZeroDivisionError: by zero"
    assert "Traceback" in (tmp_path / "logs" / "engine.log").read_text()


def test_an_end_within_a_record_is_a_loss(start: Start) -> None:
    lost, _ = lose(start("torn"))
    assert lost.open_prompts == ()
    assert "exit code 0" in lost.reason


def test_a_worker_killed_between_two_calls_is_a_loss(start: Start) -> None:
    session = start()
    assert session.info.is_mock
    worker().kill()
    lost, events = lose(session)
    assert events == []
    assert lost.open_prompts == ()


def test_what_an_engine_prints_goes_to_its_log(start: Start, tmp_path: Path) -> None:
    session = start("noisy")
    assert session.tokenize(["a"]) == [[97]]
    assert any(isinstance(event, Started) for event in session.generate([[1]], SCORE))
    log = (tmp_path / "logs" / "engine.log").read_bytes()
    assert b"garbage" in log
    assert b"\xff\x00{}\nmore\n" in log
    assert b"still noisy" in log


@pytest.mark.parametrize(
    ("odd", "message", "remedy"),
    [
        ("unloadable", "no weights", "Get some."),
        ("bug loading", "ZeroDivisionError: by zero", ""),
        ("dies loading", "lost while it loaded: .* exit code 7", "engine.log"),
    ],
)
def test_what_cannot_be_opened_says_why(start: Start, odd: str, message: str, remedy: str) -> None:
    session = start(odd)
    with pytest.raises(EngineError, match=message) as caught:
        _ = session.info
    assert remedy in caught.value.remedy


def test_a_crash_while_tokenizing_is_an_error(start: Start) -> None:
    session = start("dies tokenizing")
    with pytest.raises(EngineError, match=r"lost while it tokenized: .*SIGSEGV") as caught:
        session.tokenize(["a"])
    assert "engine.log" in caught.value.remedy


@pytest.mark.parametrize("target", ["backends.nowhere", "backends.mock:nothing"])
def test_a_backend_that_is_not_there_cannot_be_opened(start: Start, target: str) -> None:
    session = start(target=target)
    with pytest.raises(EngineError, match=r"nowhere|nothing"):
        _ = session.info


def test_an_attribute_of_a_module_can_be_a_backend(start: Start, tmp_path: Path) -> None:
    (tmp_path / "holder.py").write_text("from backends import mock as held\n")
    assert start(target="holder:held").info.is_mock


@pytest.mark.parametrize("how", ["close", "kill"])
def test_no_process_is_left(start: Start, how: str) -> None:
    session = start("parent")
    assert session.info.is_mock
    processes = psutil.Process().children(recursive=True)
    assert len(processes) == 2
    getattr(session, how)()
    assert not still_there(processes)


def test_closing_twice_or_killing_before_it_is_open_does_no_harm(start: Start) -> None:
    session = start()
    session.kill()
    session.close()
    session.kill()
    assert not psutil.Process().children()


def test_closing_gives_the_peak_of_memory(start: Start) -> None:
    session = start()
    assert session.info.is_mock
    session.close()
    assert session.peak.rss_mib is not None
    assert session.peak.rss_mib > 1


def test_a_worker_whose_harness_is_gone_ends(tmp_path: Path) -> None:
    """The harness is a process of its own here, and is killed while its worker answers."""
    code = f"""
        from pathlib import Path
        from backends.api import Decoding, ModelRef
        from harness.engine.session import EngineSession
        session = EngineSession(
            "backends.mock",
            ModelRef("toy", "mock", ""),
            {{"max_model_len": 100, "delay_ms": 20}},
            30.0,
            Path({str(tmp_path / "engine.log")!r}),
        )
        for event in session.generate([[i] for i in range(2000)], Decoding("score", ((1,),))):
            print(event, flush=True)
    """
    harness = psutil.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], stdout=-1, start_new_session=True
    )
    assert harness.stdout.readline()
    [orphan] = harness.children()
    time.sleep(0.1)
    harness.send_signal(signal.SIGKILL)
    harness.wait()
    harness.stdout.close()
    assert not still_there([orphan])


def test_check_tells_what_a_backend_says(tmp_path: Path) -> None:
    assert check_backend("backends.mock", 30.0, tmp_path / "log", sys.executable).available
    assert not psutil.Process().children()


def test_check_tells_what_went_wrong(start: Start, tmp_path: Path) -> None:
    del start  # only its module is wanted
    found = check_backend("odd_backend", 30.0, tmp_path / "log", sys.executable)
    assert not found.available
    assert found.reason == "the engine failed: OSError: no such device"
    missing = check_backend("backends.nowhere", 30.0, tmp_path / "log", sys.executable)
    assert not missing.available
    assert "nowhere" in missing.reason
