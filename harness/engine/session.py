"""The parent's side of a worker: open a model or its tokenizer there, prompt it, end it."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import numpy as np

from harness.contract import (
    Allocated,
    Availability,
    Batch,
    Decoding,
    Event,
    MemoryPlan,
    ModelRef,
    OptionValue,
    Prompt,
    SessionInfo,
    TokenIds,
    TokenizerInfo,
    in_whole_blocks,
    records,
    wire,
)
from harness.engine.audit import Audit
from harness.engine.process import ProcessTransport
from harness.engine.transport import (
    MemoryLimitError,
    Transport,
    WorkerDiedError,
    WorkerFailedError,
)
from harness.errors import EngineError
from harness.machine.memory import MemoryPeak
from harness.stats.spans import busy_seconds

_Read = TypeVar("_Read")

_PATIENCE = 10
"""How many deadlines an engine may fill with signs of life that bring a call on by nothing: no
prompt begun, none answered, no token of one evaluated. Only decoding takes that long: at a token a
second, ten times the default deadline are a reply of 3,000 tokens."""


@dataclass(frozen=True, slots=True)
class WorkerEvent:
    """An event, and the name of the worker that it comes from."""

    worker: str
    event: Event


class _Opened(ABC):
    """What a session and a tokenizer have in common. All of it raises `EngineError`."""

    def __init__(
        self,
        do: str,
        transport: Transport,
        target: str,
        model: ModelRef,
        options: Mapping[str, OptionValue],
    ) -> None:
        self._transport = transport
        self._opening = {"backend": target, "model": asdict(model), "options": dict(options)}
        transport.request({"do": do, **self._opening})

    @property
    @abstractmethod
    def info(self) -> SessionInfo | TokenizerInfo:
        """Waits until it is open."""

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text: special tokens are parsed, none is added."""
        # A worker answers one request after the other, and opening was the first.
        size = self.info.vocabulary_size
        self._transport.request({"do": "tokenize", "texts": wire.front_code_texts(texts)})
        return self._answer("tokenized", lambda message: _one_for_each(texts, size, message))

    def token_texts(self, token_ids: TokenIds) -> list[str]:
        """Each token as the model's vocabulary writes it."""
        _ = self.info
        self._transport.request({"do": "token_texts", "ids": wire.ids_array(token_ids)})
        return self._answer(
            "named tokens",
            lambda message: records.decode_token_texts(message.get("result"), len(token_ids)),
        )

    def predict_memory(self, tokens: Sequence[int]) -> list[MemoryPlan] | None:
        """What loading the model for prompts and replies of so many tokens would take; `None` where
        the backend does not say."""
        _ = self.info
        self._transport.request({**self._opening, "do": "predict_memory", "tokens": list(tokens)})
        return self._answer(
            "predicted its memory",
            lambda message: records.decode_memory_plans(message.get("result"), tokens),
        )

    def close(self) -> None:
        """Ends the worker and all its children; after that no process of it is left."""
        self._transport.close()

    def kill(self) -> None:
        """The same, without waiting for what the engine is doing."""
        self._transport.kill()

    def _answer(
        self,
        doing: str,
        read: Callable[[wire.Message], _Read],
        receive: Callable[[], wire.Message] | None = None,
        limit: str = "--timeout-seconds",
    ) -> _Read:
        """What no run can do without: a worker that fails at it is an `EngineError` too.

        `receive` waits for the message, for as long as the flag `limit` says.
        """
        try:
            return read(receive() if receive else self._transport.answer())
        except wire.WireError as error:
            self._transport.kill()
            failure: Exception = error
        except WorkerFailedError as error:
            if error.kind == "memory":
                raise MemoryLimitError(str(error), remedy=error.remedy) from error
            failure = error
        # One that was stopped, or that the machine was too busy for, is silent and not dead.
        is_gone = isinstance(failure, WorkerFailedError) and failure.kind in ("died", "silent")
        raise (WorkerDiedError if is_gone else EngineError)(
            f"the engine failed while it {doing}: {failure}",
            remedy=f"See {self._transport.log}. If it only takes long: raise {limit}.",
        ) from failure


class TokenizerSession(_Opened):
    """A model's tokenizer in a worker, without the model's weights.

    Construction starts the opening, so that several can be opened side by side; `info` waits.
    """

    def __init__(
        self,
        transport: Transport,
        target: str,
        model: ModelRef,
        options: Mapping[str, OptionValue],
    ) -> None:
        super().__init__("open_tokenizer", transport, target, model, options)

    @cached_property  # the worker answers this once
    def info(self) -> TokenizerInfo:
        return self._answer(
            "opened the tokenizer",
            lambda message: records.decode_tokenizer_info(message.get("result")),
        )


class EngineSession(_Opened):
    """One loaded model in a worker.

    Construction starts the loading; `info` waits. `load_seconds` is by the worker's clock;
    `closing_seconds` is how long ending it took. `was_prompted`: since it was opened; `is_cold`:
    not since then, or since it forgot. `expected_tokens`: how many prompt tokens the last call has
    to evaluate, if it shares what a prompt has in common with the one before it. `check_loaded` is
    called when it is loaded, and what it raises ends it. Loading may take `load_timeout_seconds`,
    by default as long as any message; meanwhile `on_stage` is called with what the backend says
    that it is doing.
    """

    def __init__(
        self,
        transport: Transport,
        target: str,
        model: ModelRef,
        options: Mapping[str, OptionValue],
        check_loaded: Callable[[], None] = lambda: None,
        load_timeout_seconds: float | None = None,
    ) -> None:
        super().__init__("open", transport, target, model, options)
        limit = load_timeout_seconds
        self._load_seconds_limit = transport.timeout_seconds if limit is None else limit
        self._load_until = time.monotonic() + self._load_seconds_limit
        self.on_stage: Callable[[str], None] = lambda _: None
        self._check_loaded = check_loaded
        self._spans: list[tuple[float, float]] = []
        self._failing_seconds = 0.0
        self.load_seconds = 0.0
        self.closing_seconds = 0.0
        self.is_cold = True
        self.was_prompted = False
        self.expected_tokens = 0

    @cached_property
    def info(self) -> SessionInfo:
        info, self.load_seconds = self._answer(
            "loaded",
            lambda message: (
                records.decode_session_info(message.get("result")),
                records.decode_seconds(message),
            ),
            self._loaded,
            "--load-timeout-seconds",
        )
        try:
            self._check_loaded()
        except EngineError:
            self.kill()
            raise
        return info

    def _loaded(self) -> wire.Message:
        """The answer to "open", behind what the backend says meanwhile."""
        while True:
            try:
                left = max(self._load_until - time.monotonic(), 0.0)
                message = self._transport.answer(left)
            except WorkerFailedError as failure:
                if failure.kind != "silent":
                    raise
                reason = f"it was not ready after {self._load_seconds_limit:g} s"
                raise WorkerFailedError(reason, "silent") from failure
            if "event" not in message:
                return message
            self.on_stage(records.decode_stage(message))

    @property
    def peak(self) -> MemoryPeak:
        return self._transport.peak

    @property
    def has_failed(self) -> bool:
        """Whether one that was loaded cannot be prompted again: it ended, or was left while it
        answered."""
        return self._transport.has_failed

    @property
    def engine_seconds(self) -> float:
        """How long it was loading and at work so far: by the clock of its batches, of which those
        that overlap count once, and by ours for the wait for an answer that failed."""
        # Reshaped, so that it can be unpacked when there is no span yet.
        began, ended = np.array(self._spans, dtype=np.float64).reshape(-1, 2).T
        at_work = float(busy_seconds(began, ended).sum())
        return self.load_seconds + at_work + self._failing_seconds

    def generate(self, prompts: Sequence[Prompt], decoding: Decoding) -> Iterator[WorkerEvent]:
        """The engine's events. Raises `WorkerFailedError`, with the prompts that are open then.

        `token_ids` of prompts are lists, tuples or arrays. Whoever leaves before the last event
        ends the worker: it has no other way to stop.
        """
        takes_text = self.info.capabilities.prompts == "text"
        # By the engine's own clock, this call begins after all earlier ones.
        ended = max((ended for _, ended in self._spans), default=None)
        audit = Audit(self.info, prompts, decoding, ended)
        began = time.perf_counter()
        self.is_cold = False
        self.was_prompted = True
        coded = wire.front_code([prompt.token_ids for prompt in prompts])
        self.expected_tokens = self._fresh_tokens(prompts, coded["shared"])
        self._transport.request(
            {
                "do": "generate",
                "decoding": asdict(decoding),
                "texts": wire.front_code_texts([p.text for p in prompts]) if takes_text else None,
                **coded,
                "attempts": wire.ids_array([prompt.attempt for prompt in prompts]),
            }
        )
        try:
            for event in self._events(audit, began, len(prompts), len(decoding.labels)):
                yield WorkerEvent(self._transport.name, event)
        finally:
            if self._transport.has_failed:
                self.kill()

    def _fresh_tokens(self, prompts: Sequence[Prompt], shared: Sequence[int]) -> int:
        """Tokens of prompts that the one before it does not begin with."""
        block = self.info.shared_block_tokens
        lengths = (len(prompt.token_ids) for prompt in prompts)
        return sum(
            length - in_whole_blocks(begins, length, block)
            for begins, length in zip(shared, lengths, strict=True)
        )

    def _events(self, audit: Audit, began: float, prompts: int, labels: int) -> Iterator[Event]:
        idle_seconds = 0.0  # waited for signs of life alone
        while True:
            waits_since = time.perf_counter()
            try:
                message = self._transport.answer()
                if "event" not in message:
                    return
                event = records.decode_event(message, prompts, labels)
                now = time.perf_counter()
                idle_seconds += now - waits_since
                if audit.take(event, now - began):
                    idle_seconds = 0.0
                if idle_seconds > _PATIENCE * self._transport.timeout_seconds:
                    raise WorkerFailedError(
                        f"it gave signs of life, and nothing else, for {idle_seconds:.0f} s",
                        "silent",
                    )
            except (EngineError, WorkerFailedError, wire.WireError) as error:
                self._failing_seconds += time.perf_counter() - waits_since
                raise self._failed(error, audit.open_prompts) from error
            if isinstance(event, Batch):
                self._spans.append((event.began, event.ended))
            yield event

    def _failed(self, error: Exception, open_prompts: Sequence[int]) -> WorkerFailedError:
        if isinstance(error, EngineError):
            # It reported the error itself, so it can go on.
            return WorkerFailedError(str(error), "reported", open_prompts, error.remedy)
        self.kill()
        if isinstance(error, WorkerFailedError):
            return WorkerFailedError(error.reason, error.kind, open_prompts, error.remedy)
        reason = f"the engine sent what makes no sense: {error}"
        return WorkerFailedError(reason, "nonsense", open_prompts)

    def allocated(self) -> Allocated:
        """What the engine says that it has allocated."""
        _ = self.info
        self._transport.request({"do": "allocated"})
        return self._answer(
            "reported its memory", lambda message: records.decode_allocated(message.get("result"))
        )

    def forget(self) -> None:
        """Has the engine drop what it keeps of earlier prompts, where its capabilities say so."""
        _ = self.info
        self._transport.request({"do": "forget"})
        self._answer("forgot earlier prompts", lambda _: None)
        self.is_cold = True

    def close(self) -> None:
        began = time.perf_counter()
        super().close()
        self.closing_seconds += time.perf_counter() - began


def check_backend(
    target: str,
    timeout_seconds: float,
    log: Path,
    python: str,
    memory_limit: int | None = None,
) -> Availability:
    """Whether a backend can run here in that interpreter, as it says itself in a worker. Raises
    `MemoryLimitError` where to import the engine takes more than the limit."""
    transport = ProcessTransport(target, timeout_seconds, log, python, memory_limit)
    try:
        transport.request({"do": "check", "backend": target})
        return records.decode_availability(transport.answer().get("result"))
    except (WorkerFailedError, EngineError, wire.WireError) as error:
        if isinstance(error, WorkerFailedError) and error.kind == "memory":
            raise MemoryLimitError(str(error), remedy=error.remedy) from error
        return Availability(False, reason=str(error))
    finally:
        transport.close()


def _one_for_each(
    texts: Sequence[str], vocabulary_size: int | None, message: wire.Message
) -> list[list[int]]:
    token_ids = wire.front_decode(message)
    records.check_ids("ids", wire.ids_of(message, "ids"), vocabulary_size)
    if len(token_ids) != len(texts):
        raise wire.WireError(f"shared: {len(token_ids)} lists of ids for {len(texts)} texts")
    return token_ids
