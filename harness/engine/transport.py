"""The way to a worker: what a session needs of it, whatever the worker is and wherever it runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Protocol, TypeAlias

from harness.contract import wire
from harness.errors import EngineError
from harness.machine.memory import MemoryPeak

Failure: TypeAlias = Literal["died", "silent", "nonsense", "reported", "memory"]


class WorkerFailedError(Exception):
    """The worker failed.

    `kind`: it "died", was "silent" past its deadline, sent "nonsense" (a fresh one would too),
    "reported" an error of its engine, which may have a `remedy`, or took more "memory" than it may.
    `open_prompts`, by their index in
    the call, were begun and not answered: this is what it costs.
    """

    def __init__(
        self, reason: str, kind: Failure, open_prompts: Sequence[int] = (), remedy: str = ""
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.kind = kind
        self.open_prompts = tuple(open_prompts)
        self.remedy = remedy


class WorkerDiedError(EngineError):
    """The worker died, or was ended for its silence, at what no run can do without, such as
    loading. A fresh one may do it."""


class MemoryLimitError(EngineError):
    """The worker was ended for taking more than --memory-limit. A fresh one would take as much."""


class Transport(Protocol):
    """One worker, which answers one request at a time (`backends.worker` has both).

    `name` says which worker it is among those of a run. `log` holds what its engine printed.
    `timeout_seconds` is the deadline of each message.
    """

    name: str
    log: Path
    timeout_seconds: float

    @property
    def has_failed(self) -> bool:
        """Whether it cannot be given a request: it ended, or owes the rest of an answer."""
        ...

    @property
    def peak(self) -> MemoryPeak:
        """The most memory that it used so far."""
        ...

    def request(self, message: wire.Message) -> None:
        """Sends a request. If that fails, `answer` raises the reason; a request that is too large
        for a frame raises `EngineError` here."""
        ...

    def answer(self, within_seconds: float | None = None) -> wire.Message:
        """The next message of the answer, which has its own deadline where one is given.

        Raises `EngineError` where the worker reported an error, and `WorkerFailedError` where it
        failed; it is killed then.
        """
        ...

    def close(self) -> None:
        """Ends the worker and all its children; it is given time to do so by itself."""
        ...

    def kill(self) -> None:
        """The same, without waiting for what the engine is doing. Both may be called again."""
        ...
