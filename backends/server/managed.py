"""A server that we start: a child of the worker, on a free port of this machine.

It stays in the worker's process group. So its memory is counted with the worker's, and it ends
with the worker, whatever ends that: the harness kills the group, and where the harness is killed
itself, its guard does. What the server prints is copied into the worker's log, up to a bound.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import socket
import string
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, TYPE_CHECKING

from backends.api import (
    NO_FILES,
    BackendError,
    Decoding,
    Event,
    ModelRef,
    Options,
    Prompt,
    SessionInfo,
    TokenIds,
)
from backends.rules import CONCURRENCY, THREADS, usable_cpus
from backends.server.presets import PRESETS, Wanted
from backends.stages import say
from backends.vllm.backend import ENFORCE_EAGER

if TYPE_CHECKING:
    from backends.server.session import ServerSession
    from backends.server.tokenizer import LocalTokenizer

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
    """The arguments of a command that was checked, with the values of all `PLACEHOLDERS`."""
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


def open_local_tokenizer(model: ModelRef, command: Sequence[str]) -> LocalTokenizer:
    """Starts no server. What `start` would refuse is refused now, before other engines have worked
    for hours."""
    from backends.server.tokenizer import open_local

    _check(command, model)
    return open_local(model)


def _check(command: Sequence[str], model: ModelRef) -> None:
    if not _is_preset(command):
        check_command(command)
    if model.format == NO_FILES:
        raise BackendError(
            f"there is no model {model.name!r} here that a server could be started with",
            "Name a GGUF file, or a folder, by --model.",
        )


def start(command: Sequence[str], model: ModelRef, options: Options) -> ManagedServer:
    """A server that is ready. Raises `BackendError`."""
    _check(command, model)
    threads = THREADS.given(options) or usable_cpus()
    context, port = int(options["max_model_len"]), free_port()
    variables: Mapping[str, str] = {}
    name = ""
    if _is_preset(command):
        at_once, is_eager = CONCURRENCY.of(options), ENFORCE_EAGER.of(options)
        preset = PRESETS[command[0]](Wanted(model, context, at_once, threads, is_eager))
        say(f"starting {preset.title}")
        command, variables, name = preset.command, preset.variables, preset.title
    values = {"model": _location(model), "port": port, "threads": threads, "context": context}
    server = ManagedServer(filled(command, values), port, variables, name)
    try:
        server.wait_until_ready()
    except BaseException:
        server.close()
        raise
    return server


def _is_preset(command: Sequence[str]) -> bool:
    return len(command) == 1 and command[0] in PRESETS


def _location(model: ModelRef) -> str:
    """The file, or the folder, which may be in the hub's cache."""
    if model.format != "hf":
        return model.location
    from backends.hf.weights import given_folder

    return str(given_folder(model))


def free_port() -> int:
    """One that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


class ManagedServer:
    """Starts the server when it is made. Raises `BackendError` where there is no such program."""

    def __init__(
        self, arguments: Sequence[str], port: int, variables: Mapping[str, str], name: str = ""
    ) -> None:
        self.url = f"http://{HOST}:{port}"
        self._port = port
        self._name = name or Path(arguments[0]).name
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
            stage = f"{self._name}: {_without_head(self._output.latest)}"
            if stage != said:
                say(stage)
                said = stage
            time.sleep(_SECONDS_BETWEEN_LOOKS)

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    def close(self) -> None:
        """Ends it by SIGTERM, and kills it where that is not enough. Its children that are left end
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


class ManagedSession:
    """A session with a server that ends when the session does."""

    def __init__(
        self, session: ServerSession, server: ManagedServer, model: ModelRef, options: Options
    ) -> None:
        self._session, self._server = session, server
        info = session.info
        self.info: SessionInfo = replace(
            info,
            # Some call it after the file: a table has its name, as for any other engine.
            weights=info.weights.replace(_location(model), model.name),
            device="this machine",  # what of it computes, the server does not say
            threads=THREADS.given(options) or usable_cpus(),
            capabilities=replace(info.capabilities, location="local"),
        )

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        return self._session.tokenize(texts)

    def token_texts(self, token_ids: TokenIds) -> list[str]:
        return self._session.token_texts(token_ids)

    def generate(self, prompts: Sequence[Prompt], decoding: Decoding) -> Iterator[Event]:
        """Raises `BackendError`: of a server that ended, with its last words."""
        try:
            yield from self._session.generate(prompts, decoding)
        except BackendError as error:
            if self._server.is_running:
                raise
            raise self._server.why_ended() from error

    def forget(self) -> None:
        self._session.forget()

    def close(self) -> None:
        self._session.close()
        self._server.close()


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


def _without_head(line: str) -> str:
    """Without the time and the place in the code that stand before what a log's line says."""
    return re.sub(r"^[^\]]*\[[^\]]*\] ", "", line)


def _write(data: bytes) -> None:
    # A full disk costs the log, and not the server, which would wait for us to read on.
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
