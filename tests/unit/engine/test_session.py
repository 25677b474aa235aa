"""Workers that answer, crash, hang, print and leave children: each costs only what it has to."""

from __future__ import annotations

import os
import re
import signal
import sys
import textwrap
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypeAlias

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends import mock, records, wire
from backends.api import (
    Batch,
    Capabilities,
    Decoding,
    Event,
    ModelRef,
    Progress,
    Prompt,
    Reply,
    SessionInfo,
    Started,
)
from backends.wire import Message
from harness.engine import process as process_module
from harness.engine import session as session_module
from harness.engine.process import ProcessTransport
from harness.engine.session import EngineSession, TokenizerSession, check_backend
from harness.engine.transport import Failure, WorkerDiedError, WorkerFailedError
from harness.errors import EngineError
from harness.machine.memory import MemoryPeak

MODEL = ModelRef("toy", "mock", "")
OPTIONS = {"max_model_len": 100}
SCORE = Decoding("score", ((1,), (2,)))
PROMPTS = [Prompt([i]) for i in range(1, 21)]

Start: TypeAlias = Callable[..., EngineSession]

# A backend that does what its model's name says.
ODD = """
    import math, os, signal, struct, subprocess, sys, time
    from backends import mock
    from backends.api import Availability, Batch, Progress, Reply, Started
    from backends.stages import say

    FORMATS, OPTIONS = mock.FORMATS, mock.OPTIONS

    def check():
        raise OSError("no such device")

    def open_session(model, options):
        if model.name == "dies loading":
            os._exit(7)
        if model.name == "bug loading":
            raise ZeroDivisionError("by zero")
        if model.name == "slow":
            time.sleep(2)
        if model.name.startswith("stages"):
            say("reading the weights")
            if model.name == "stages for ever":
                time.sleep(600)
            say("x" * 100)
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

        def close(self):
            if self.name == "sleeps in close":
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
                time.sleep(600)

        def tokenize(self, texts):
            if self.name == "dies tokenizing":
                os.kill(os.getpid(), signal.SIGSEGV)
            return super().tokenize(texts)

        def generate(self, prompts, decoding):
            if self.name == "noisy":
                print("still noisy", flush=True)
            descriptor = int(sys.argv[1])
            if self.name in ("torn", "half a frame"):
                os.write(descriptor, struct.pack("<II", 1000, 0) + b'{"event"')
            if self.name == "too large":
                os.write(descriptor, struct.pack("<II", 2**31, 0))
            if self.name == "no JSON":
                os.write(descriptor, struct.pack("<II", 4, 0) + b"hey!")
            if self.name == "torn":
                os._exit(0)
            if self.name in ("half a frame", "too large", "no JSON"):
                time.sleep(600)
            if self.name == "dies with a child":
                if os.fork() == 0:
                    time.sleep(600)  # and holds the socket open
                os._exit(7)
            if self.name == "closes":
                os.close(descriptor)
                time.sleep(600)
            if self.name == "stops":
                os.kill(os.getpid(), signal.SIGSTOP)
            if self.name == "real-time signal":
                os.kill(os.getpid(), signal.SIGRTMIN + 1)
            if self.name == "long words":
                raise mock.BackendError("no" * 10_000_000, "go" * 10_000_000)
            if self.name == "unasked":
                sent = b'{"result":null,"arrays":{}}'
                os.write(descriptor, struct.pack("<II", len(sent), 0) + sent)
            while self.name == "signs":
                yield Progress(0)
                time.sleep(0.05)
            if self.name == "illegal":
                os.kill(os.getpid(), signal.SIGILL)
            if self.name == "nonsense":
                yield Started((0, 1))
                yield Batch((Reply(0, "scored", 1),), 0.0, math.nan)
            if self.name == "unsendable":
                yield Batch((Reply(0, "scored", 1, token_ids=("a",)),), 0.0, 1.0)
            if self.name == "bug":
                yield Started((0, 1))
                yield Batch((Reply(0, "scored", 1),), 0.0, 0.0)
                raise ZeroDivisionError("by zero")
            yield from super().generate(prompts, decoding)
"""


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Starts sessions of the mock, or of the odd backend if a name says how it is odd."""
    (tmp_path / "odd_backend.py").write_text(textwrap.dedent(ODD), encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    opened: list[EngineSession] = []

    def begin(
        odd: str = "",
        target: str = "",
        timeout_seconds: float = 30.0,
        load_timeout_seconds: float | None = None,
        **options: Any,
    ) -> EngineSession:
        named = target or ("odd_backend" if odd else "backends.mock")
        session = EngineSession(
            ProcessTransport(named, timeout_seconds, tmp_path / "logs" / "engine.log"),
            named,
            ModelRef(odd, "mock", "") if odd else MODEL,
            {**OPTIONS, **options},
            load_timeout_seconds=load_timeout_seconds,
        )
        opened.append(session)
        return session

    yield begin
    for session in opened:
        session.kill()


def fail(session: EngineSession) -> tuple[WorkerFailedError, list[Event]]:
    """The failure that ends the answer, and the events before it."""
    events: list[Event] = []
    with pytest.raises(WorkerFailedError) as caught:
        events.extend(one.event for one in session.generate(PROMPTS, SCORE))
        pytest.fail("the worker did not fail")
    return caught.value, events


def still_there(processes: list[psutil.Process]) -> list[psutil.Process]:
    return list(psutil.wait_procs(processes, timeout=5)[1])


def in_group(process: psutil.Process, group: int) -> bool:
    try:
        return os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE
    except (ProcessLookupError, psutil.Error):
        return False


def worker() -> psutil.Process:
    [one] = psutil.Process().children()
    return one


def test_a_worker_loads_tokenizes_and_answers(start: Start) -> None:
    session = start()
    assert session.info.is_mock
    assert session.tokenize(["ab", "", "abc<eos>"]) == [[97, 98], [], [97, 98, 99, 257]]
    for _ in range(2):
        events = list(session.generate(PROMPTS, SCORE))
        assert {one.worker for one in events} == {"engine"}  # as its log is called
        batches = [one.event for one in events if isinstance(one.event, Batch)]
        replies = sorted(reply.prompt for batch in batches for reply in batch.replies)
        assert replies == list(range(20))
    assert session.engine_seconds >= session.load_seconds > 0


def test_a_worker_forgets_when_it_has_to(start: Start) -> None:
    session = start()

    def computed() -> int:
        events = [one.event for one in session.generate([Prompt([1, 2, 3])], SCORE)]
        return sum(event.prefill_tokens or 0 for event in events if isinstance(event, Batch))

    assert session.is_cold
    assert (computed(), computed()) == (3, 0)
    assert not session.is_cold
    session.forget()
    assert session.is_cold
    assert computed() == 3


def test_a_worker_that_failed_cannot_forget(start: Start) -> None:
    session = start(crash_at=1)
    fail(session)
    with pytest.raises(EngineError, match="failed while it forgot earlier prompts"):
        session.forget()


def test_whoever_leaves_an_answer_early_ends_the_worker(start: Start) -> None:
    session = start(delay_ms=50)
    assert session.info.is_mock
    assert not session.has_failed
    process = worker()
    for _ in session.generate(PROMPTS, SCORE):
        break
    assert session.has_failed
    assert not still_there([process])
    failure, events = fail(session)
    assert (failure.reason, events) == ("it was ended before", [])


def test_what_is_left_of_an_answer_is_never_taken_for_the_next(start: Start) -> None:
    """The iterator is still there, as that of a failed test is in its traceback."""
    session = start(delay_ms=50)
    left = session.generate(PROMPTS, SCORE)
    next(left)
    assert session.has_failed
    with pytest.raises(EngineError, match="failed while it tokenized: it was ended before"):
        session.tokenize(["a"])
    with pytest.raises(EngineError, match="failed while it forgot"):
        session.forget()
    with pytest.raises(WorkerFailedError):
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
    failure, events = fail(start(crash_at=12))
    batches = [event for event in events if isinstance(event, Batch)]
    assert sum(len(batch.replies) for batch in batches) == 8
    assert len(failure.open_prompts) == 8
    assert "signal 9" in failure.reason


def test_a_hang_ends_at_the_deadline(start: Start) -> None:
    session = start(hang_at=12, timeout_seconds=1.0, load_timeout_seconds=30.0)
    process = worker()
    failure, _ = fail(session)
    assert "no sign of life for 1 s" in failure.reason
    assert session.engine_seconds >= 1.0  # the wait is the engine's, not the harness's
    assert len(failure.open_prompts) == 8
    assert not still_there([process])


def test_a_bug_of_the_engine_costs_what_was_begun_and_is_reported(
    start: Start, tmp_path: Path
) -> None:
    failure, _ = fail(start("bug"))
    assert failure.open_prompts == (1,)
    assert failure.reason == "the engine failed: ZeroDivisionError: by zero"
    assert "Traceback" in (tmp_path / "logs" / "engine.log").read_text()


def test_half_a_frame_ends_at_the_deadline(start: Start) -> None:
    session = start("half a frame", timeout_seconds=1.0, load_timeout_seconds=30.0)
    process = worker()
    failure, _ = fail(session)
    assert failure.reason == "no sign of life for 1 s"
    assert not still_there([process])


def test_a_worker_that_does_not_read_ends_at_the_deadline(start: Start) -> None:
    session = start(timeout_seconds=1.0, load_timeout_seconds=30.0)
    assert session.info.is_mock
    process = worker()
    process.send_signal(signal.SIGSTOP)
    with pytest.raises(EngineError, match="while it tokenized: it took no request for 1 s"):
        session.tokenize(["a" * 10_000_000])
    assert not still_there([process])


@pytest.mark.parametrize(
    ("odd", "said"), [("too large", "is more than the"), ("no JSON", "is not JSON")]
)
def test_what_is_no_frame_ends_the_worker(start: Start, odd: str, said: str) -> None:
    session = start(odd)
    assert session.info.is_mock
    process = worker()
    failure, _ = fail(session)
    assert failure.reason.startswith("the engine sent what makes no sense: ")
    assert said in failure.reason
    assert not still_there([process])


def test_a_child_that_holds_the_socket_does_not_hide_the_end_of_its_worker(start: Start) -> None:
    session = start("dies with a child", timeout_seconds=60.0)
    assert session.info.is_mock
    group = worker().pid
    failure, _ = fail(session)
    assert "exit code 7" in failure.reason
    assert not still_there([p for p in psutil.process_iter() if in_group(p, group)])


def test_a_worker_that_closes_its_connection_and_lives_on_is_ended(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process_module, "_CLOSE_SECONDS", 0.5)
    session = start("closes")
    assert session.info.is_mock
    process = worker()
    failure, _ = fail(session)
    assert (failure.reason, failure.kind) == (
        "the engine closed its connection and did not end", "died",
    )  # fmt: skip
    assert not still_there([process])


def test_a_worker_that_stops_itself_is_ended_at_the_deadline(start: Start) -> None:
    session = start("stops", timeout_seconds=1.0, load_timeout_seconds=30.0)
    assert session.info.is_mock
    process = worker()
    failure, _ = fail(session)
    assert (failure.reason, failure.kind) == ("no sign of life for 1 s", "silent")
    assert not still_there([process])


def test_signs_of_life_alone_are_not_waited_for_without_end(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_module, "_PATIENCE", 0.2)
    failure, events = fail(start("signs", timeout_seconds=10.0))
    assert re.fullmatch(r"it gave signs of life, and nothing else, for \d+ s", failure.reason)
    assert failure.kind == "silent"
    assert set(events) == {Progress(0)}


def test_what_was_not_wanted_is_no_answer(start: Start) -> None:
    session = start("unasked")
    failure, _ = fail(session)
    assert failure.reason == (
        "the engine sent what makes no sense: request: this answers nothing that it was given now"
    )
    assert failure.kind == "nonsense"


def test_a_worker_that_does_not_close_is_ended_all_the_same(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process_module, "_CLOSE_SECONDS", 0.5)
    session = start("sleeps in close")
    assert session.info.is_mock
    process = worker()
    session.close()
    assert 0.5 <= session.closing_seconds < 5
    assert not still_there([process])


def test_a_signal_without_a_name_is_named_by_its_number(start: Start) -> None:
    failure, _ = fail(start("real-time signal"))
    assert failure.reason == f"the engine crashed ({signal.SIGRTMIN + 1})"


def test_of_an_error_no_more_is_stored_than_can_be_read(start: Start) -> None:
    failure, _ = fail(start("long words"))
    assert failure.reason == "no" * 500
    assert failure.kind == "reported"


def test_an_illegal_instruction_says_what_it_may_be(start: Start) -> None:
    failure, _ = fail(start("illegal"))
    assert "compiled for another processor" in failure.reason
    assert "reinstall it" in failure.reason


def test_a_record_that_makes_no_sense_ends_the_worker(start: Start) -> None:
    session = start("nonsense")
    assert session.info.is_mock
    process = worker()
    failure, events = fail(session)
    assert failure.reason == (
        "the engine sent what makes no sense: batch.ended: 'nan' is not a finite number"
    )
    assert failure.open_prompts == (0, 1)
    assert events == [Started((0, 1))]
    assert not still_there([process])


def test_what_cannot_be_sent_is_a_failure_that_says_why(start: Start) -> None:
    failure, _ = fail(start("unsendable"))
    assert "WireError: token ids" in failure.reason


def test_what_is_too_large_to_be_sent_costs_nothing(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = start()
    assert session.info.is_mock
    monkeypatch.setattr(wire, "MOST_BYTES", 1000)
    with pytest.raises(EngineError, match=r"a frame of .* is more than the 1000"):
        list(session.generate([Prompt(range(300))], SCORE))
    assert not session.has_failed
    assert session.tokenize(["a"]) == [[97]]


def test_an_end_within_a_message_is_a_failure(start: Start) -> None:
    failure, _ = fail(start("torn"))
    assert failure.open_prompts == ()
    assert "exit code 0" in failure.reason


def test_a_worker_killed_between_two_calls_has_failed(start: Start) -> None:
    session = start()
    assert session.info.is_mock
    worker().kill()
    failure, events = fail(session)
    assert events == []
    assert failure.open_prompts == ()


def test_what_an_engine_prints_goes_to_its_log(start: Start, tmp_path: Path) -> None:
    session = start("noisy")
    assert session.tokenize(["a"]) == [[97]]
    assert any(isinstance(one.event, Started) for one in session.generate([Prompt([1])], SCORE))
    log = (tmp_path / "logs" / "engine.log").read_bytes()
    assert b"garbage" in log
    assert b"\xff\x00{}\nmore\n" in log
    assert b"still noisy" in log


@pytest.mark.parametrize(
    ("odd", "message", "remedy"),
    [
        ("unloadable", "no weights", "Get some."),
        ("bug loading", "ZeroDivisionError: by zero", ""),
        ("dies loading", "failed while it loaded: .* exit code 7", "engine.log"),
    ],
)
def test_what_cannot_be_opened_says_why(start: Start, odd: str, message: str, remedy: str) -> None:
    session = start(odd)
    with pytest.raises(EngineError, match=message) as caught:
        _ = session.info
    assert remedy in caught.value.remedy


def test_a_crash_while_tokenizing_is_an_error(start: Start) -> None:
    session = start("dies tokenizing")
    with pytest.raises(EngineError, match=r"failed while it tokenized: .*SIGSEGV") as caught:
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


def test_check_reports_what_a_backend_says(tmp_path: Path) -> None:
    assert check_backend("backends.mock", 30.0, tmp_path / "log", sys.executable).available
    assert not psutil.Process().children()


def test_check_reports_what_went_wrong(start: Start, tmp_path: Path) -> None:
    del start  # only its module is wanted
    found = check_backend("odd_backend", 30.0, tmp_path / "log", sys.executable)
    assert not found.available
    assert found.reason == "the engine failed: OSError: no such device"
    missing = check_backend("backends.nowhere", 30.0, tmp_path / "log", sys.executable)
    assert not missing.available
    assert "nowhere" in missing.reason


def open_tokenizer(folder: Path, name: str) -> TokenizerSession:
    transport = ProcessTransport("backends.mock", 30.0, folder / f"{name}.log")
    return TokenizerSession(transport, "backends.mock", ModelRef(name, "mock", ""), OPTIONS)


def test_tokenizers_open_side_by_side(tmp_path: Path) -> None:
    opened = [open_tokenizer(tmp_path, name) for name in ("a", "b", "c")]
    try:
        assert len(psutil.Process().children()) == 3
        for session in opened:
            assert session.info == mock.MockTokenizer({}).info
            assert session.tokenize(["ab", "", "abc<eos>"]) == [[97, 98], [], [97, 98, 99, 257]]
            assert session.token_texts([97, 257]) == ["a", "<eos>"]
            assert session.token_texts(array("i")) == []
    finally:
        for session in opened:
            session.close()
    assert not psutil.Process().children()


def test_a_tokenizer_that_cannot_be_opened_says_why(start: Start, tmp_path: Path) -> None:
    del start  # only its module is wanted, which has none
    transport = ProcessTransport("odd_backend", 30.0, tmp_path / "log")
    session = TokenizerSession(transport, "odd_backend", MODEL, OPTIONS)
    try:
        with pytest.raises(EngineError, match="open_tokenizer"):
            _ = session.info
        with pytest.raises(EngineError, match="it owes no answer"):
            session.tokenize(["a"])
    finally:
        session.close()


INFO = SessionInfo(
    "toy", "toy 1", "m", "w", "cpu", 1, declared_context=99, allocated_context=99,
    vocabulary_sha256="0" * 64, is_mock=True, vocabulary_size=300,
)  # fmt: skip


class Scripted:
    """A transport whose worker gives these answers, whatever it is given."""

    name = "scripted"
    log = Path("scripted.log")
    peak = MemoryPeak(None, None)
    timeout_seconds = 30.0

    def __init__(self, *answers: Message | Event, info: SessionInfo = INFO) -> None:
        result = {**asdict(info), "findings": [asdict(one) for one in info.findings]}
        opened: Message = {"result": result, "seconds": 2.0}
        self.answers = [opened, *answers]
        self.requests: list[Message] = []
        self.has_failed = False
        self.failure: Failure = "died"

    def request(self, message: Message) -> None:
        self.requests.append(message)

    def answer(self, within_seconds: float | None = None) -> Message:
        del within_seconds
        if not self.answers:
            raise WorkerFailedError("it has ended", self.failure)
        answer = self.answers.pop(0)
        return answer if isinstance(answer, dict) else records.encode_event(answer)

    def close(self) -> None:
        self.kill()

    def kill(self) -> None:
        self.has_failed = True


def test_what_a_backend_does_while_it_loads_is_heard(start: Start) -> None:
    session = start("stages")
    heard: list[str] = []
    session.on_stage = heard.append
    assert session.info.is_mock
    assert heard == ["reading the weights", "x" * 60]


def test_loading_has_a_limit_of_its_own_that_stages_do_not_extend(start: Start) -> None:
    session = start("stages for ever", timeout_seconds=60.0, load_timeout_seconds=2.0)
    with pytest.raises(EngineError, match="was not ready after 2 s") as caught:
        _ = session.info
    assert "--load-timeout-seconds" in caught.value.remedy
    # and it may be longer than that of a message
    assert start("slow", timeout_seconds=1.0, load_timeout_seconds=60.0).info.is_mock


END: Message = {"result": None}


def scripted(*answers: Message | Event, **info: Any) -> tuple[EngineSession, Scripted]:
    transport = Scripted(*answers, info=replace(INFO, **info))
    return EngineSession(transport, "toy", MODEL, OPTIONS), transport


def batch(*prompts: int, began: float = 0.0, ended: float = 1.0) -> Batch:
    return Batch(tuple(Reply(prompt, "scored", 1) for prompt in prompts), began, ended)


def test_a_session_needs_no_more_than_a_transport() -> None:
    session, transport = scripted(Started((0, 1)), batch(0, 1), END)
    assert session.info == INFO
    events = list(session.generate(PROMPTS, SCORE))
    assert [one.event for one in events] == [Started((0, 1)), batch(0, 1)]
    assert {one.worker for one in events} == {"scripted"}
    assert [request["do"] for request in transport.requests] == ["open", "generate"]
    assert session.engine_seconds == session.load_seconds + 1.0 == 3.0


@pytest.mark.parametrize(
    ("spans", "seconds"),
    [
        ([(0.0, 1.0), (1.0, 2.0)], 2.0),
        ([(5.0, 6.0), (0.0, 1.0)], 2.0),
        ([(0.0, 10.0), (5.0, 8.0)], 10.0),
        ([(5.0, 8.0), (0.0, 10.0)], 10.0),
        ([(5.0, 8.0), (6.0, 9.0), (0.0, 5.5)], 9.0),
        ([(3.0, 3.0)], 0.0),
    ],
)
def test_batches_that_overlap_are_counted_once(
    spans: list[tuple[float, float]], seconds: float
) -> None:
    batches = [batch(index, began=began, ended=ended) for index, (began, ended) in enumerate(spans)]
    session, _ = scripted(Started(tuple(range(len(spans)))), *batches, END)
    seen = []
    for _ in session.generate(PROMPTS, SCORE):
        seen.append(session.engine_seconds)
    assert session.engine_seconds == 2.0 + seconds
    assert seen == sorted(seen)


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 9)), max_size=12))
def test_busy_is_every_moment_in_which_a_batch_was_under_way(spans: list[tuple[int, int]]) -> None:
    batches = [
        batch(index, began=float(began), ended=float(began + length))
        for index, (began, length) in enumerate(spans)
    ]
    session, _ = scripted(Started(tuple(range(len(spans)))), *batches, END)
    list(session.generate(PROMPTS, SCORE))
    moments = {second for began, length in spans for second in range(began, began + length)}
    assert session.engine_seconds == 2.0 + len(moments)


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ([batch(2), batch(2)], "a prompt is answered twice"),
        ([batch(3, 3)], "a prompt is answered twice"),
        ([batch(0)], "a prompt is answered and not begun"),
        ([batch(len(PROMPTS))], "none of the 20 prompts"),
        ([Started((20,))], "none of the 20 prompts"),
        ([Batch((Reply(0, "scored", 1, label_logprobs=(0.0,)),), 0.0, 0.0)], "label_logprobs"),
        ([batch(began=1.0, ended=0.0)], "batch.ended"),
        ([{"event": "token"}], "event: 'token'"),
    ],
)
def test_events_that_make_no_sense_are_a_failure(
    answers: Sequence[Message | Event], said: str
) -> None:
    session, transport = scripted(Started((2, 3)), *answers, END)
    failure, _ = fail(session)
    assert "the engine sent what makes no sense: " in failure.reason
    assert said in failure.reason
    assert 3 in failure.open_prompts
    assert transport.has_failed


@pytest.mark.parametrize(
    "answer",
    [
        {"result": None},
        {"result": None, **wire.front_code([[1]])},
        {"result": None, **wire.front_code([[1], [2]]), "ids": [1, 2]},
        {"result": None, **wire.front_code([[1], [-2]])},
        {"result": None, **wire.front_code([[1], [2, 300]])},
    ],
)
def test_token_ids_that_make_no_sense_are_an_error(answer: Message) -> None:
    session, transport = scripted(answer)
    with pytest.raises(EngineError, match=r"failed while it tokenized: .*(shared|ids)"):
        session.tokenize(["a", "b"])
    assert transport.has_failed


@pytest.mark.parametrize("kind", ["died", "silent"])
def test_a_worker_that_dies_and_one_that_keeps_silent_may_be_started_again(kind: Any) -> None:
    """A worker that was stopped is no other fault than one that was killed."""
    session, transport = scripted()
    transport.answers.clear()
    transport.failure = kind
    with pytest.raises(WorkerDiedError, match="failed while it loaded: "):
        _ = session.info


@pytest.mark.parametrize("threads", [-1, "two", None])
def test_an_info_that_makes_no_sense_is_an_error(threads: Any) -> None:
    session, transport = scripted(threads=threads)
    with pytest.raises(EngineError, match=r"failed while it loaded: SessionInfo\.threads"):
        _ = session.info
    assert transport.has_failed


@pytest.mark.parametrize("takes", ["text", "token_ids"])
def test_ids_and_attempts_always_travel_and_texts_where_they_are_taken(takes: Any) -> None:
    session, transport = scripted(END, capabilities=Capabilities(prompts=takes))
    prompts = [Prompt([1, 2], "ab", 0), Prompt(array("i", [1, 3]), "ac", 1)]
    assert list(session.generate(prompts, SCORE)) == []
    sent = transport.requests[-1]
    assert wire.front_decode(sent) == [[1, 2], [1, 3]]
    assert sent["attempts"].tolist() == [0, 1]
    assert sent["texts"] == ([[0, "ab"], [1, "c"]] if takes == "text" else None)
