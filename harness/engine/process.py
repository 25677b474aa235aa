"""A worker in a process of its own on this machine, and the socket to it.

Every worker is the leader of its own process group, so that its children end with it. One that
crashes, or keeps silent past its deadline, never takes the harness with it; and a harness that is
killed takes all of its workers with it (`Guard`). Its temporary folder goes when it ends.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from harness.contract import BACKENDS, wire
from harness.engine.guard import Guard
from harness.engine.interpreters import worker_environment
from harness.engine.logs import open_log
from harness.engine.scratch import make_scratch, remove_scratch
from harness.engine.transport import Failure, WorkerFailedError
from harness.errors import EngineError
from harness.machine.limit import LOOK_SECONDS, MemoryLimit
from harness.machine.memory import MemoryPeak, MemoryProbe, size

WORKER = BACKENDS / "worker.py"  # by its path: the name may be found elsewhere
_CLOSE_SECONDS = 10.0
_LOOK_SECONDS = 0.2  # how often a wait for the socket looks whether the worker still runs
_MOST_CHARACTERS = 1000  # of an error's text: it is stored with every prompt that it costs
_ILLEGAL_INSTRUCTION = (
    "the engine crashed (SIGILL): it was compiled for another processor, or wrongly; "
    "reinstall it so that it is compiled on this machine"
)


class ProcessTransport:
    """Starts the process. `python` is the interpreter to run it in, `target` the backend.

    One deadline of `timeout_seconds` holds over sending a whole request, and over each message of
    the answer, from when it is waited for to its last byte. With `memory_limit`, in bytes, it is
    ended when it and its children take more together. Raises `EngineError` where the process cannot
    be started.
    """

    def __init__(
        self,
        target: str,
        timeout_seconds: float,
        log: Path,
        python: str = sys.executable,
        memory_limit: int | None = None,
    ) -> None:
        self.name = log.stem
        self.log = log
        self.timeout_seconds = timeout_seconds
        self._requests = 0
        self._owes_answer = False
        # why there is no worker, once there is none
        self._end = WorkerFailedError("it was ended before", "died")
        environment = worker_environment(python, target)
        self._guard: Guard | None = None
        self._limit: MemoryLimit | None = None
        self._watching = contextlib.ExitStack()
        with open_log(log) as sink, contextlib.ExitStack() as undo:
            self._scratch = make_scratch()
            undo.callback(remove_scratch, self._scratch)
            self._connection, theirs = socket.socketpair()
            undo.callback(self._connection.close)
            self._connection.setblocking(False)
            # The child has copies. While ours of `theirs` is open, the end of the child closes
            # nothing.
            with theirs:
                self._process = self._started(python, environment, theirs, sink)
            undo.pop_all()
            undo.callback(self._end_group)  # of the folder and the connection too
            self._guard = Guard(self._process.pid, self._scratch)
            self._limit = MemoryLimit(self._process.pid, memory_limit) if memory_limit else None
            probe = (
                MemoryProbe(self._process.pid, LOOK_SECONDS, look=self._limit.look)
                if self._limit
                else MemoryProbe(self._process.pid)
            )
            self._probe = self._watching.enter_context(probe)
            undo.pop_all()

    def _started(
        self, python: str, environment: Mapping[str, str], theirs: socket.socket, sink: IO[bytes]
    ) -> subprocess.Popen[bytes]:
        try:
            return subprocess.Popen(  # noqa: S603 - our own module, no shell
                # -P: without it, the folder of worker.py is on the path, and its `vllm` and
                # `llama_cpp` are found instead of the engines' packages.
                [python, "-P", str(WORKER), str(theirs.fileno())],
                env={**environment, "TMPDIR": str(self._scratch)},
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                start_new_session=True,
            )
        except OSError as error:
            raise EngineError(
                f"the interpreter {python} cannot be started: {error}",
                remedy="Fix `python` in the backend's table of the config.",
            ) from error

    @property
    def has_failed(self) -> bool:
        # The number of a closed socket is -1.
        is_gone = self._connection.fileno() < 0 or self._process.poll() is not None
        return is_gone or self._owes_answer

    @property
    def peak(self) -> MemoryPeak:
        return self._probe.peak

    def request(self, message: wire.Message) -> None:
        """A worker that owes an answer is killed first: it would be taken for the answer to this
        request."""
        if self._owes_answer:
            self.kill()
        if self._connection.fileno() < 0:
            return
        self._requests += 1
        numbered = {**message, "request": self._requests}
        try:
            # Before it is sent: an interrupt in the middle would leave half a request behind.
            self._owes_answer = True
            wire.send(self._connection, numbered, self._wait_until(self.timeout_seconds))
        except wire.WireError as error:  # nothing was sent
            self._owes_answer = False
            raise EngineError(
                f"this cannot be given to the engine: {error}",
                remedy="Give fewer or shorter prompts at once.",
            ) from error
        except TimeoutError:
            self._fail(f"it took no request for {self.timeout_seconds:g} s", "silent")
        except (EOFError, OSError):
            self._died()

    def answer(self, within_seconds: float | None = None) -> wire.Message:
        seconds = self.timeout_seconds if within_seconds is None else within_seconds
        if self._connection.fileno() < 0:
            raise WorkerFailedError(self._end.reason, self._end.kind, remedy=self._end.remedy)
        if not self._owes_answer:  # one would be waited for in vain
            raise WorkerFailedError("it owes no answer", "died")
        try:
            message = wire.receive(self._connection, self._wait_until(seconds))
            if message.pop("request", None) != self._requests:
                raise wire.WireError("request: this answers nothing that it was given now")
        except TimeoutError as error:
            raise self._fail(f"no sign of life for {seconds:g} s", "silent") from error
        except (EOFError, OSError) as error:
            raise self._died() from error
        except wire.WireError as error:
            reason = f"the engine sent what makes no sense: {error}"
            raise self._fail(reason, "nonsense") from error
        # Events come before the end of an answer; any other message is its end.
        self._owes_answer = "event" in message
        if "error" not in message:
            return message
        said = str(message["error"])[:_MOST_CHARACTERS]
        if message.get("expected"):
            remedy = str(message.get("remedy", ""))[:_MOST_CHARACTERS]
            raise EngineError(said, remedy=remedy)
        raise EngineError(f"the engine failed: {said}", remedy=f"See {self.log}.")

    def close(self) -> None:
        self._watching.close()
        if self._connection.fileno() < 0:
            return
        self.request({"do": "close"})
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_CLOSE_SECONDS)
        self.kill()

    def kill(self) -> None:
        self._watching.close()
        if self._connection.fileno() < 0:
            return
        self._end_group()

    def _end_group(self) -> None:
        """Once more after an interrupt: the connection is closed last, and a closed one says that
        all is done."""
        # macOS forbids it, rather than finds none, where only a zombie is left
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        if self._limit:
            self._limit.release()
        remove_scratch(self._scratch)
        if self._guard:
            self._guard.release()
        self._connection.close()

    def _wait_until(self, seconds: float) -> wire.Wait:
        """Waits for the socket until that long from now.

        The process is watched beside it: a child that holds the socket open would hide that its
        worker has ended. It is looked at first, so that what it sent before its end is read.
        """
        deadline = time.monotonic() + seconds
        poller = select.poll()

        def wait(event: int) -> None:
            poller.register(self._connection, event)
            while True:
                has_ended = self._process.poll() is not None
                left = deadline - time.monotonic()
                if left <= 0:
                    raise TimeoutError
                if poller.poll(0 if has_ended else 1000 * min(left, _LOOK_SECONDS)):
                    return
                if has_ended:
                    raise EOFError

        return wait

    def _fail(self, reason: str, kind: Failure, remedy: str = "") -> WorkerFailedError:
        self._end = WorkerFailedError(reason, kind, remedy=remedy)
        self.kill()
        return self._end

    def _died(self) -> WorkerFailedError:
        cause = self._cause_of_death()
        if not self._limit or not self._limit.was_exceeded:
            return self._fail(cause, "died")
        return self._fail(
            f"it was ended for taking more memory than {size(self._limit.most_bytes)}",
            "memory",
            "Raise --memory-limit, or lower --max-model-len.",
        )

    def _cause_of_death(self) -> str:
        try:
            # The connection may close a little before the process has ended.
            code = self._process.wait(_CLOSE_SECONDS)
        except subprocess.TimeoutExpired:
            return "the engine closed its connection and did not end"
        if code == -signal.SIGKILL:
            return "the engine was killed (signal 9), perhaps because memory ran out"
        if code == -signal.SIGILL:
            return _ILLEGAL_INSTRUCTION
        if code < 0:
            named = -code in set(signal.Signals)  # of the real-time signals, most have no name
            return f"the engine crashed ({signal.Signals(-code).name if named else -code})"
        return f"the engine ended with exit code {code}; see {self.log}"
