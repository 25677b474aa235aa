"""What a model takes of memory when it is loaded and prompted over the whole length."""

from __future__ import annotations

from harness.contract import Decoding, Prompt
from harness.engine.engine import Engine, EnginePlan
from harness.engine.transport import WorkerFailedError
from harness.errors import EngineError
from harness.fit.memory import MIB, Measured

_TEXT = "12 7 93 45 60 8 31 "  # numbers, as the prompts of vectors have them
_REPLY_TOKENS = 8


def measure(plan: EnginePlan, length: int) -> Measured:
    """One prompt as long as the context allows. Raises `EngineError`."""
    with Engine(plan, length) as engine:
        engine.load()
        session = engine.session
        allocated = session.allocated()
        [some] = session.tokenize([_TEXT * 20])
        ids = (some * (length // len(some) + 1))[: length - _REPLY_TOKENS]
        decoding = Decoding("free", labels=(tuple(some[:1]),), max_tokens=_REPLY_TOKENS)
        try:
            for _ in session.generate([Prompt(ids, _TEXT * (length // 12))], decoding):
                pass
        except WorkerFailedError as failure:
            raise EngineError(
                f"{engine.name} failed at a prompt of {len(ids):,} tokens: {failure.reason}",
                remedy=failure.remedy or f"See {plan.log}.",
            ) from failure
    peak = session.peak
    return Measured(
        cache_bytes=allocated.cache_bytes,
        compute_bytes=allocated.compute_bytes,
        peak_rss_bytes=_bytes(peak.rss_mib),
        peak_gpu_bytes=_bytes(peak.gpu_mib),
    )


def _bytes(mib: float | None) -> int | None:
    return None if mib is None else round(mib * MIB)
