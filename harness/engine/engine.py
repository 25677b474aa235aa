"""An engine of a run: which backend, which model, which options, and the session it is in.

The session can fail and be started again; the engine stays.
"""

from __future__ import annotations

import importlib.metadata
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from harness.contract import (
    BEYOND_MODEL,
    Backend,
    MemoryPlan,
    ModelRef,
    OptionValue,
    Requirements,
    SessionInfo,
    TokenIds,
    TokenizerInfo,
    has_nvidia,
    requirements_of,
)
from harness.engine.interpreters import find_interpreter, own_environment
from harness.engine.models import combined_sha256, model_files, resolve_model
from harness.engine.options import INTERPRETER, options_of
from harness.engine.process import ProcessTransport
from harness.engine.registry import find_backend
from harness.engine.session import EngineSession, TokenizerSession, check_backend
from harness.engine.transport import WorkerDiedError
from harness.errors import EngineError
from harness.spec import Entry, RunSpec

MOST_STARTS = 3  # of a worker that does not load, because it dies or keeps silent
_Answer = TypeVar("_Answer")
_PACKAGE_NAME = re.compile(r"[\w.-]+")  # what a requirement begins with, as PEP 508 has it


@dataclass(frozen=True, slots=True)
class EnginePlan:
    """All that it takes to open an entry's engine, or its tokenizer alone.

    `may_go_beyond`: the backend takes more tokens than a model was made for, if it is given
    `BEYOND_MODEL`. `memory_limit` is what a worker with a loaded model may take, in bytes.
    `target` is the backend as `module[:attribute]`. `options` are what the backend is given, with
    `max_model_len` of the spec. `model_files` are the hashes of the model's files by path.
    """

    entry: Entry
    target: str
    model: ModelRef
    options: Mapping[str, OptionValue]
    python: str
    timeout_seconds: float
    load_timeout_seconds: float
    log: Path
    model_files: Mapping[str, str]
    memory_limit: int | None = None
    may_go_beyond: bool = False

    @property
    def model_sha256(self) -> str | None:
        """`None` for a name on the hub, and where the backend reads no files."""
        return combined_sha256(self.model, self.model_files)

    def open_tokenizer(self) -> EngineTokenizer:
        """Starts to open it. Whoever calls it closes it."""
        return EngineTokenizer(self)

    def start_tokenizer(self) -> TokenizerSession:
        """One worker of `EngineTokenizer`."""
        return TokenizerSession(self._start(None), self.target, self.model, self.options)

    def open_session(self, max_model_len: int) -> EngineSession:
        """Starts to load the model, for prompts and replies of so many tokens.

        Raises `EngineError` where a file of the model is not the one that was planned with; so does
        the session, where that is so when it has loaded.
        """
        self.check_files()
        options = {**self.options, "max_model_len": max_model_len}
        return EngineSession(
            self._start(self.memory_limit),
            self.target,
            self.model,
            options,
            check_loaded=self.check_files,
            load_timeout_seconds=self.load_timeout_seconds,
        )

    def check_files(self) -> None:
        """Raises `EngineError` where a file of the model is not the one that was planned with."""
        now = model_files(self.model)
        for path in sorted(now.keys() | self.model_files.keys()):
            if now.get(path) != self.model_files.get(path):
                raise EngineError(
                    f"{self.entry.name}: the model's file {path} has changed since the run was "
                    "planned",
                    remedy="Bring the file back, or begin a new run.",
                )

    def _start(self, memory_limit: int | None) -> ProcessTransport:
        return ProcessTransport(
            self.target, self.timeout_seconds, self.log, self.python, memory_limit
        )


def plan_engine(entry: Entry, spec: RunSpec, logs: Path) -> EnginePlan:
    """Hashes the model's files, which takes a while at the first time.

    Raises `UsageError` for an option that the backend does not know and a model that there is not,
    `EngineError` where the backend cannot run here.
    """
    registered = find_backend(entry.backend)
    backend = registered.load()
    options = options_of(entry, backend, spec)
    log = logs / f"{entry.name}.log"
    python = find_interpreter(
        _whose_environment(entry, backend, options), entry.options.get(INTERPRETER)
    )
    model = resolve_model(entry.model, backend.FORMATS, spec.models)
    if python == sys.executable and _lacks(requirements_of(backend, has_nvidia())):
        # To check it takes the seconds of importing the engine. That is done only where packages
        # are missing, and there is nothing to import.
        found = check_backend(registered.target, spec.timeout_seconds, log, python)
        if not found.available:
            raise EngineError(f"backend {entry.backend}: {found.reason}", remedy=found.remedy)
    return EnginePlan(
        entry=entry,
        target=registered.target,
        model=model,
        options=options,
        python=python,
        timeout_seconds=spec.timeout_seconds,
        load_timeout_seconds=spec.load_timeout_seconds,
        log=log,
        model_files=model_files(model),
        memory_limit=spec.memory_limit,
        may_go_beyond=any(one.name == BEYOND_MODEL.name for one in backend.OPTIONS),
    )


class EngineTokenizer:
    """Starts to open the tokenizer of an entry when it is made. One whose worker ends, or keeps
    silent, is opened again and given the same once more, as an engine is loaded again.

    All of it raises `EngineError`.
    """

    def __init__(self, plan: EnginePlan) -> None:
        self._plan = plan
        self._session = plan.start_tokenizer()

    @property
    def info(self) -> TokenizerInfo:
        return self._try(lambda session: session.info)

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        return self._try(lambda session: session.tokenize(texts))

    def token_texts(self, token_ids: TokenIds) -> list[str]:
        return self._try(lambda session: session.token_texts(token_ids))

    def predict_memory(self, tokens: Sequence[int]) -> list[MemoryPlan] | None:
        return self._try(lambda session: session.predict_memory(tokens))

    def close(self) -> None:
        self._session.close()

    def _try(self, do: Callable[[TokenizerSession], _Answer]) -> _Answer:
        for _ in range(MOST_STARTS - 1):
            try:
                return do(self._session)
            except WorkerDiedError:
                self._session.kill()
                self._session = self._plan.start_tokenizer()
        return do(self._session)


class Engine:
    """Starts loading when it is made, for prompts and replies of up to `max_model_len` tokens.

    Whenever it loads, `on_stage` is called with what its backend says that it is doing, at first
    with nothing.
    """

    def __init__(self, plan: EnginePlan, max_model_len: int) -> None:
        self.name = plan.entry.name
        self.plan = plan
        self.model_sha256 = plan.model_sha256
        self._max_model_len = max_model_len
        self._busy_before = 0.0
        self.on_stage: Callable[[str], None] = lambda _: None
        self.session = plan.open_session(max_model_len)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.session.close()
        else:
            # After an error or Ctrl-C, what the engine is doing is not waited for.
            self.session.kill()

    @property
    def busy_seconds(self) -> float:
        """How long it was loading and at work, and ending, in all sessions."""
        return self._busy_before + self.session.engine_seconds + self.session.closing_seconds

    def load(self) -> SessionInfo:
        """Waits until the session is loaded. Raises `EngineError`.

        A worker that dies while it loads, or keeps silent, is started again: another program may
        have needed the memory or the processor.
        """
        for _ in range(MOST_STARTS - 1):
            try:
                return self._wait()
            except WorkerDiedError:
                self.restart()
        return self._wait()

    def _wait(self) -> SessionInfo:
        self.on_stage("")
        self.session.on_stage = self.on_stage
        return self.session.info

    def restart(self) -> None:
        """A fresh session instead of this one. Raises `EngineError`."""
        before = self.session
        before.kill()
        self.session = self.plan.open_session(self._max_model_len)
        self._busy_before += before.engine_seconds

    def make_cold(self) -> None:
        """What it is prompted with next finds nothing stored of earlier prompts.

        An engine that cannot forget is loaded again, and so is one that failed at its last prompts.
        Raises `EngineError`.
        """
        session = self.session
        if session.info.capabilities.can_forget:
            try:
                session.forget()
            except EngineError:
                if not session.has_failed:
                    raise
            self.revive()
        elif session.has_failed or not session.is_cold:
            self.restart()
            self.load()

    def revive(self) -> None:
        """A loaded session that failed is started again. Raises `EngineError`."""
        if self.session.has_failed:
            self.restart()
            self.load()


def _whose_environment(entry: Entry, backend: Backend, options: Mapping[str, OptionValue]) -> str:
    """The backend's own, unless it says that another's is wanted, and that is there."""
    said = getattr(backend, "environment_of", None)
    other = said(options) if said else ""
    return other if other and own_environment(other).is_whole else entry.backend


def _lacks(wanted: Requirements) -> bool:
    """Whether one of these packages, in whatever version, is missing from our interpreter."""
    names = [match[0] for package in wanted.packages if (match := _PACKAGE_NAME.match(package))]
    # As pip compares names: `llama-cpp-python` is found as `llama_cpp_python` too.
    return any(not list(importlib.metadata.distributions(name=name)) for name in names)
