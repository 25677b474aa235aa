"""An engine of a run: which backend, which model, which options, and the session it is in.

The session can be lost and begun anew; the engine stays.
"""

from __future__ import annotations

import importlib.metadata
import re
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

from backends.api import Backend, OptionValue, Requirements
from harness.engine.interpreters import find_interpreter
from harness.engine.models import resolve_model, weights_sha256
from harness.engine.registry import find_backend
from harness.engine.session import EngineSession, check_backend
from harness.errors import EngineError, UsageError
from harness.machine.nvml import has_gpu
from harness.spec import RunSpec

INTERPRETER = "python"  # the one key of a backend's table that is not an option of the engine
_PACKAGE_NAME = re.compile(r"[\w.-]+")  # what a requirement begins with, as PEP 508 has it


class Engine:
    """Starts loading when it is made. `log` takes what the engine prints."""

    def __init__(self, name: str, spec: RunSpec, log: Path) -> None:
        registered = find_backend(name)
        backend = registered.load()
        self.name = name
        self._target = registered.target
        self._model = resolve_model(spec.model, backend.FORMATS, spec.models)
        self._options = _options(name, backend, spec)
        self._python = find_interpreter(name, spec.backends.get(name, {}).get(INTERPRETER))
        self._timeout_seconds = spec.timeout_seconds
        self._log = log
        if self._python == sys.executable and _lacks(backend.requirements(has_gpu())):
            self._refuse_unavailable()
        self._hasher = ThreadPoolExecutor(max_workers=1)
        self._digest = self._hasher.submit(weights_sha256, self._model)
        self._busy_before = 0.0
        self.session = self._first_session = self._begin()

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
            self.session.kill()
        self._hasher.shutdown()

    @property
    def model_sha256(self) -> str | None:
        """`weights_sha256` of the model; null for a hub name, and where no files are read."""
        return self._digest.result()

    @property
    def busy_seconds(self) -> float:
        """How long it was loading and generating by its own clock, and ending, in all sessions."""
        return self._busy_before + self.session.engine_seconds + self.session.closing_seconds

    @property
    def first_load_seconds(self) -> float:
        """How long its first session took to load."""
        return self._first_session.load_seconds

    def restart(self) -> None:
        """A fresh session instead of the one that was lost."""
        self.session.kill()
        self._busy_before += self.session.engine_seconds
        self.session = self._begin()

    def make_cold(self) -> None:
        """What it is asked next finds nothing kept of what it was asked before.

        A session that was lost with its last prompts is begun anew. Raises `EngineError`.
        """
        try:
            self.session.forget()
        except EngineError:
            if not self.session.is_lost:
                raise
        self.revive()

    def revive(self) -> None:
        """A loaded session that was lost is begun anew. Raises `EngineError`."""
        if self.session.is_lost:
            self.restart()
            _ = self.session.info  # waits until it is loaded

    def _refuse_unavailable(self) -> None:
        """Raises `EngineError` where the backend cannot run, before anything is loaded in vain.

        To ask it takes the seconds of importing the engine, so it is asked only where packages
        are missing, when it has nothing to import.
        """
        found = check_backend(self._target, self._timeout_seconds, self._log, self._python)
        if not found.available:
            raise EngineError(f"backend {self.name}: {found.reason}", remedy=found.remedy)

    def _begin(self) -> EngineSession:
        return EngineSession(
            self._target,
            self._model,
            self._options,
            self._timeout_seconds,
            self._log,
            self._python,
        )


def check_options(spec: RunSpec) -> None:
    """Raises `UsageError` for an option that none of the run's backends knows, and for the
    options of a backend that there is not."""
    for name in spec.backends:
        find_backend(name)
    known = {option for name in spec.backend for option in find_backend(name).load().OPTIONS}
    _refuse_unknown(set(spec.engine) - known, ", ".join(spec.backend), sorted(known))


def _lacks(wanted: Requirements) -> bool:
    """Whether one of these packages, in whatever version, is missing from our interpreter."""
    names = [match[0] for package in wanted.packages if (match := _PACKAGE_NAME.match(package))]
    return any(not list(importlib.metadata.distributions(name=name)) for name in names)


def _options(name: str, backend: Backend, spec: RunSpec) -> Mapping[str, OptionValue]:
    """The common options it knows, the table of its own over them, and the context length."""
    own = {key: value for key, value in spec.backends.get(name, {}).items() if key != INTERPRETER}
    _refuse_unknown(set(own) - set(backend.OPTIONS), name, sorted(backend.OPTIONS))
    common = {key: value for key, value in spec.engine.items() if key in backend.OPTIONS}
    return {**common, **own, "max_model_len": spec.max_model_len}


def _refuse_unknown(unknown: set[str], who: str, known: Sequence[str]) -> None:
    if unknown:
        raise UsageError(
            f"{who} knows no option {', '.join(sorted(unknown))}",
            remedy=f"It knows: {', '.join(known)}.",
        )
