"""A server that we start: a child of the worker, on a free port of this machine.

It stays in the worker's process group. So its memory is counted with the worker's, and it ends
with the worker, whatever ends that: the harness kills the group, and where the harness is killed
itself, its guard does. What the server prints is copied into the worker's log, up to a bound.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import string
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from backends.api import BackendError
from backends.stages import say

HOST = "127.0.0.1"
PLACEHOLDERS = ("model", "port", "threads", "context")
MOST_LOG_BYTES = 2**20  # of what one server prints, but for its last lines
_LAST_LINES = 8
_LONGEST_LINE = 4096
_LONGEST_SHOWN = 200  # characters of a line in an error
_SECONDS_BETWEEN_LOOKS = 0.2
_ANSWER_SECONDS = 2.0
_CLOSE_SECONDS = 5.0  # less than the harness waits for the worker
_READ_SECONDS = 1.0  # for what is left of its output, which a child of it may hold open


def check_command(command: Sequence[str]) -> None:
    """Raises `BackendError` for what `filled` could not fill in, or where no port is taken."""
    used = {name for part in command for name in _placeholders(part)}
    if unknown := sorted(used - {*PLACEHOLDERS}):
        listed = ", ".join(f"{{{name}}}" for name in PLACEHOLDERS)
        raise BackendError(
            f"command has {{{unknown[0]}}}",
            f"Use {listed}. A brace that is meant as one is written twice: {{{{ or }}}}.",
        )
    if "port" not in used:
        raise BackendError(
            "command does not say where the port goes",
            'Write {port} where it stands, such as "--port", "{port}": the harness chooses it.',
        )


def filled(command: Sequence[str], values: Mapping[str, object]) -> list[str]:
    """The arguments with the values in place of `{model}` and the others; `values` has them all."""
    check_command(command)
    return [part.format(**values) for part in command]


def _placeholders(part: str) -> list[str]:
    """What stands in braces, with whatever stands there beside the name."""
    try:
        pieces = list(string.Formatter().parse(part))
    except ValueError as error:
        raise BackendError(
            f"command: {part!r} has a brace without its other half",
            "A brace that is meant as one is written twice: {{ or }}.",
        ) from error
    return [
        name + (f"!{conversion}" if conversion else "") + (f":{form}" if form else "")
        for _, name, form, conversion in pieces
        if name is not None
    ]


def free_port() -> int:
    """One that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


class ManagedServer:
    """Starts the server when it is made. Raises `BackendError` where there is no such program."""

    def __init__(self, arguments: Sequence[str], port: int, variables: Mapping[str, str]) -> None:
        self.url = f"http://{HOST}:{port}"
        self._port = port
        self._name = Path(arguments[0]).name
        try:
            self._process = subprocess.Popen(  # noqa: S603 - the user's own command, no shell
                arguments,
                env={**os.environ, **variables},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
        except OSError as error:
            raise BackendError(
                f"the server {arguments[0]} cannot be started: {error.strerror}",
                "Install it, or give the path of its program as the first part of command.",
            ) from error
        assert self._process.stdout is not None
        self._output = _Output(self._process.stdout)
        self._output.start()

    def wait_until_ready(self) -> None:
        """As long as it takes: the harness has the deadline. Raises `BackendError` where the server
        ends before."""
        said = ""
        while True:
            # Before it is asked: another program's server may answer on the port of one that ended.
            self._check_runs()
            if self._is_ready():
                self._check_runs()
                return
            stage = f"starting {self._name}: {self._output.latest}"
            if stage != said:
                say(stage)
                said = stage
            time.sleep(_SECONDS_BETWEEN_LOOKS)

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    def close(self) -> None:
        """Ends it: it is asked to, and killed where it does not. Its children that are left end
        with the worker."""
        self._process.terminate()
        try:
            self._process.wait(_CLOSE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._output.join(_READ_SECONDS)

    def why_ended(self) -> BackendError:
        """For one that runs no more."""
        self._output.join(_READ_SECONDS)
        code = self._process.returncode
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        last = " | ".join(self._output.shown)
        return BackendError(
            f"the server {self._name} {how}" + (f": {last}" if last else ""),
            "The engine's log has the rest of what it printed. Fix command, or what it names.",
        )

    def _check_runs(self) -> None:
        if not self.is_running:
            raise self.why_ended()

    def _is_ready(self) -> bool:
        """One without /health is ready when it lists its models."""
        health = self._status("/health")
        return health == 200 or (health == 404 and self._status("/v1/models") == 200)

    def _status(self, path: str) -> int:
        """That of an answer; 0 where there is none."""
        connection = http.client.HTTPConnection(HOST, self._port, timeout=_ANSWER_SECONDS)
        try:
            connection.request("GET", path)
            return connection.getresponse().status
        except (OSError, http.client.HTTPException):
            return 0
        finally:
            connection.close()


class _Output(threading.Thread):
    """Copies what the server prints into our own output, which is the worker's log. Of one that
    prints more than a log may hold, the last lines follow when it ends."""

    def __init__(self, stream: IO[bytes]) -> None:
        super().__init__(name="server-output", daemon=True)
        self._stream = stream
        self._last: deque[bytes] = deque(maxlen=_LAST_LINES)
        self._bytes = 0

    @property
    def latest(self) -> str:
        return next(reversed(self.shown), "")

    @property
    def shown(self) -> list[str]:
        """The last lines with anything in them, as an error may have them."""
        texts = (line.decode("utf-8", errors="replace") for line in list(self._last))
        plain = ("".join(c if c.isprintable() else " " for c in text).strip() for text in texts)
        return [text[:_LONGEST_SHOWN] for text in plain if text]

    def run(self) -> None:
        with self._stream:
            while line := self._stream.readline(_LONGEST_LINE):
                if line.strip():
                    self._last.append(line)
                was_within = self._bytes <= MOST_LOG_BYTES
                self._bytes += len(line)
                if self._bytes <= MOST_LOG_BYTES:
                    _write(line)
                elif was_within:
                    _write(b"\n[the server printed more than is stored; its last lines follow]\n")
        if self._bytes > MOST_LOG_BYTES:
            _write(b"".join(self._last))


def _write(data: bytes) -> None:
    # A full disk costs the log, and not the server, which would wait for us to read on.
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
