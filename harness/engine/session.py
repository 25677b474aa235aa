"""The parent's side of a worker: start it, ask it, watch it, end it.

A worker that crashes or keeps silent past its deadline raises `WorkerLostError`; it never takes the
harness with it. Every worker is the leader of its own process group, so that its children end too.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any

from backends import wire
from backends.api import (
    Availability,
    Batch,
    Decoding,
    Event,
    ModelRef,
    OptionValue,
    SessionInfo,
    Started,
    TokenIds,
)
from harness.engine.interpreters import worker_environment
from harness.errors import EngineError
from harness.machine.memory import MemoryPeak, MemoryProbe

_CLOSE_SECONDS = 10.0


class WorkerLostError(Exception):
    """The worker is gone. `open_prompts` were begun and not answered: this is what it costs."""

    def __init__(self, reason: str, open_prompts: Sequence[int] = ()) -> None:
        super().__init__(reason)
        self.reason = reason
        self.open_prompts = tuple(open_prompts)


class EngineSession:
    """One backend in one worker process.

    Construction starts the process and the loading; `info` waits for it. `load_seconds` and
    `engine_seconds` (loading, and generating so far) are by the engine's own clock, but for the
    wait for one that was lost; `closing_seconds` is how long ending it took. `log` takes what the
    engine prints; `python` is the interpreter to run it in.
    """

    def __init__(
        self,
        target: str,
        model: ModelRef,
        options: Mapping[str, OptionValue],
        timeout_seconds: float,
        log: Path,
        python: str = sys.executable,
    ) -> None:
        self._worker = _Worker(target, timeout_seconds, log, python)
        self._watching = contextlib.ExitStack()
        self._probe = self._watching.enter_context(MemoryProbe(self._worker.pid))
        self._info: SessionInfo | None = None
        self.load_seconds = 0.0
        self.engine_seconds = 0.0
        self.closing_seconds = 0.0
        self._worker.request(
            {"do": "open", "backend": target, "model": asdict(model), "options": dict(options)}
        )

    @property
    def info(self) -> SessionInfo:
        """Waits until the model is loaded. Raises `EngineError` where it cannot be."""
        if self._info is None:
            answer = self._answer("loaded")
            self._info = SessionInfo(**answer["result"])
            self.load_seconds = self.engine_seconds = answer["seconds"]
        return self._info

    @property
    def peak(self) -> MemoryPeak:
        return self._probe.peak

    @property
    def is_lost(self) -> bool:
        """Whether one that was loaded can be asked no more: it ended, or was left in mid-answer."""
        return self._worker.is_lost

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        _ = self.info
        self._worker.request({"do": "tokenize", "texts": list(texts)})
        return wire.front_decode(self._answer("tokenized")["result"])

    def token_texts(self, token_ids: TokenIds) -> list[str]:
        _ = self.info
        self._worker.request({"do": "token_texts", "token_ids": list(token_ids)})
        texts: list[str] = self._answer("named tokens")["result"]
        return texts

    def generate(self, prompts: Sequence[TokenIds], decoding: Decoding) -> Iterator[Event]:
        """The engine's events. Raises `WorkerLostError`, with the prompts that are lost with it.

        Whoever leaves before the last event ends the worker: it has no other way to stop.
        """
        _ = self.info
        self._worker.request(
            {"do": "generate", "prompts": wire.front_code(prompts), "decoding": asdict(decoding)}
        )
        try:
            yield from self._events()
        finally:
            if self._worker.owes_answer:
                self.kill()

    def _events(self) -> Iterator[Event]:
        open_prompts: set[int] = set()
        while True:
            asked = time.perf_counter()
            try:
                message = self._worker.answer()
            except WorkerLostError as lost:
                self.engine_seconds += time.perf_counter() - asked
                raise WorkerLostError(lost.reason, sorted(open_prompts)) from lost
            except EngineError as error:
                raise WorkerLostError(str(error), sorted(open_prompts)) from error
            if "event" not in message:
                return
            event = wire.decode_event(message)
            if isinstance(event, Started):
                open_prompts.update(event.prompts)
            elif isinstance(event, Batch):
                open_prompts.difference_update(reply.prompt for reply in event.replies)
                self.engine_seconds += event.engine_seconds
            yield event

    def forget(self) -> None:
        """Has the engine drop what it keeps of earlier prompts. Raises `EngineError`."""
        _ = self.info
        self._worker.request({"do": "forget"})
        self._answer("forgot earlier prompts")

    def _answer(self, doing: str) -> wire.Message:
        """What no run can do without. Raises `EngineError`, also where the worker is lost."""
        try:
            return self._worker.answer()
        except WorkerLostError as lost:
            raise EngineError(
                f"the engine was lost while it {doing}: {lost.reason}",
                remedy=f"See {self._worker.log}. If it only takes long: raise --timeout-seconds.",
            ) from lost

    def close(self) -> None:
        """Ends the worker and all its children; after that no process of it is left."""
        began = time.perf_counter()
        self._watching.close()
        self._worker.close()
        self.closing_seconds += time.perf_counter() - began

    def kill(self) -> None:
        """The same, without waiting for what the engine is at."""
        self._watching.close()
        self._worker.kill()


def check_backend(target: str, timeout_seconds: float, log: Path, python: str) -> Availability:
    """Asks a backend, in a worker of its own, whether it can run here in that interpreter."""
    worker = _Worker(target, timeout_seconds, log, python)
    try:
        worker.request({"do": "check", "backend": target})
        return Availability(**worker.answer()["result"])
    except (WorkerLostError, EngineError) as error:
        return Availability(False, reason=str(error))
    finally:
        worker.close()


class _Worker:
    """The process and its connection. `owes_answer`: its last request is not answered in full."""

    def __init__(self, target: str, timeout_seconds: float, log: Path, python: str) -> None:
        self._timeout_seconds = timeout_seconds
        self.log = log
        self.owes_answer = False
        log.parent.mkdir(parents=True, exist_ok=True)
        ours, theirs = Pipe()
        self._connection: Connection[Any, Any] = ours
        with theirs, log.open("ab") as sink:
            try:
                self._process = subprocess.Popen(  # noqa: S603 - our own module, no shell
                    [python, "-P", "-m", "backends.worker", str(theirs.fileno())],
                    env=worker_environment(python, target),
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    stdout=sink,
                    stderr=sink,
                    start_new_session=True,
                )
            except OSError as error:
                ours.close()
                raise EngineError(
                    f"the interpreter {python} cannot be started: {error}",
                    remedy="Mend `python` in the backend's table of the config.",
                ) from error
        self.pid = self._process.pid

    @property
    def is_lost(self) -> bool:
        gone = self._connection.closed or self._process.poll() is not None
        return gone or self.owes_answer

    def request(self, message: wire.Message) -> None:
        """A worker that owes an answer is killed: it would be taken for the answer to this."""
        if self.owes_answer:
            self.kill()
        self.owes_answer = True
        with contextlib.suppress(OSError):  # it is gone, which `answer` tells
            wire.send(self._connection, message)

    def answer(self) -> wire.Message:
        """The next message. Raises `WorkerLostError`; `EngineError` where an error was told."""
        if self._connection.closed:
            raise WorkerLostError("it was ended before")
        try:
            if not self._connection.poll(self._timeout_seconds):
                self.kill()
                raise WorkerLostError(f"no sign of life for {self._timeout_seconds:g} s")
            message = wire.receive(self._connection)
        except (EOFError, OSError) as error:  # OSError: it ended within a record
            raise WorkerLostError(self._cause_of_death()) from error
        self.owes_answer = "event" in message
        if "error" in message:
            raise self._told(message)
        return message

    def close(self) -> None:
        """Asks the worker to close; ends its whole group in any case."""
        if self._connection.closed:
            return
        self.request({"do": "close"})
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_CLOSE_SECONDS)
        self.kill()

    def kill(self) -> None:
        if self._connection.closed:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()
        self._connection.close()

    def _told(self, message: wire.Message) -> EngineError:
        if message["expected"]:
            return EngineError(message["error"], remedy=message["remedy"])
        return EngineError(f"the engine failed: {message['error']}", remedy=f"See {self.log}.")

    def _cause_of_death(self) -> str:
        try:
            code = self._process.wait(_CLOSE_SECONDS)
        except subprocess.TimeoutExpired:
            return "the engine closed its connection and did not end"
        if code == -signal.SIGKILL:
            return "the engine was killed (signal 9), perhaps for want of memory"
        if code < 0:
            return f"the engine crashed ({signal.Signals(-code).name})"
        return f"the engine ended with exit code {code}; see {self.log}"
