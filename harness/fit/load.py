"""What an engine does with a context of some length: loaded for it, and prompted over all of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.contract import Batch, Decoding, Prompt, SessionInfo
from harness.engine.engine import Engine, EnginePlan
from harness.engine.session import EngineSession
from harness.engine.transport import MemoryLimitError, WorkerFailedError
from harness.errors import EngineError
from harness.fit.memory import Measured
from harness.machine.memory import MIB

_TEXT = "12 7 93 45 60 8 31 "  # numbers, as the prompts of vectors have them
_UNITS = 20  # of that text, to know how many tokens one takes
_REPLY_TOKENS = 1


@dataclass(frozen=True, slots=True)
class Loaded:
    """`prefill_seconds` of each prompt, by its length."""

    info: SessionInfo
    measured: Measured
    prefill_seconds: dict[int, float]


def load(plan: EnginePlan, length: int, shorter: Sequence[int] = ()) -> Loaded:
    """Prompts with as many tokens as `length` has room for; before that, with as many as each of
    the shorter lengths, each of them cold. Raises `EngineError`."""
    with Engine(plan, length) as engine:
        engine.load()
        allocated = engine.session.allocated()
        seconds: dict[int, float] = {}
        for each in (*shorter, length):
            if seconds:
                engine.make_cold()
            prompt = _prompt(engine.session, each - _REPLY_TOKENS)
            seconds[len(prompt.token_ids)] = _answer(engine, prompt)
        info = engine.session.info
    peak = engine.session.peak  # ended first: what it needed at its end is part of it
    measured = Measured(
        cache_bytes=allocated.cache_bytes,
        compute_bytes=allocated.compute_bytes,
        peak_rss_bytes=_bytes(peak.rss_mib),
        peak_gpu_bytes=_bytes(peak.gpu_mib),
    )
    return Loaded(info, measured, seconds)


def _prompt(session: EngineSession, length: int) -> Prompt:
    [some] = session.tokenize([_TEXT * _UNITS])
    ids = (some * (length // len(some) + 1))[:length]
    return Prompt(ids, _TEXT * (length * _UNITS // len(some)))


def _answer(engine: Engine, prompt: Prompt) -> float:
    """The seconds of its prefill; of the whole of it, which is a token more, where the engine does
    not say. Raises `EngineError` where it is not answered."""
    labels = (tuple(prompt.token_ids[:1]),)
    decoding = Decoding("free", labels=labels, max_tokens=_REPLY_TOKENS, ignore_end=True)
    what = f"at a prompt of {len(prompt.token_ids):,} tokens"
    batches: list[Batch] = []
    try:
        for one in engine.session.generate([prompt], decoding):
            if isinstance(one.event, Batch):
                batches.append(one.event)
    except WorkerFailedError as failure:
        if failure.kind == "memory":
            raise MemoryLimitError(failure.reason, remedy=failure.remedy) from failure
        raise EngineError(
            f"{engine.name} failed {what}: {failure.reason}",
            remedy=failure.remedy or f"See {engine.plan.log}.",
        ) from failure
    replies = [reply for batch in batches for reply in batch.replies]
    if not replies or replies[0].finish in ("overflow", "empty", "failed"):
        why = replies[0].text or replies[0].finish if replies else "it gave no reply"
        raise EngineError(f"{engine.name} failed {what}: {why}", remedy=f"See {engine.plan.log}.")
    return sum(
        batch.engine_seconds if batch.prefill_seconds is None else batch.prefill_seconds
        for batch in batches
    )


def _bytes(mib: float | None) -> int | None:
    return None if mib is None else round(mib * MIB)
