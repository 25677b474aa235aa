"""What a model takes of memory before it is loaded, compared with what is free."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias

from harness.contract import MemoryPlan
from harness.errors import EngineError
from harness.machine.free import free_bytes
from harness.machine.memory import size
from harness.record import Record


class Measured(Record):
    """What loading it and prompting it over the whole length took. `cache_bytes` and
    `compute_bytes` are the engine's own figures, `None` where it has none."""

    cache_bytes: int | None
    compute_bytes: int | None
    peak_rss_bytes: int | None
    peak_gpu_bytes: int | None


class Memory(Record):
    """A prediction for one length, in bytes; `free_bytes` is `None` where it cannot be known.

    `cache_bytes` is all that is held of tokens. `total_bytes` is the sum of the four parts, and
    `device_bytes` what of it lies on the device: of a GPU's, all but the engine's process. That is
    compared with `free_bytes`. `cache_tokens` is what a cache of fixed size holds, and
    `cache_option` the option that sets its size; `None` and empty of a cache that grows with the
    length, `None` also where that is not known. `longest_context` is the length that would fit, and
    `parallel_sequences` how many sequences of this one.
    """

    device: Literal["cpu", "gpu"]
    weights_bytes: int
    cache_bytes: int
    compute_bytes: int
    engine_bytes: int
    total_bytes: int
    device_bytes: int
    cache_tokens: int | None
    cache_option: str
    free_bytes: int | None
    fits: bool | None
    bytes_over: int
    longest_context: int | None
    parallel_sequences: int | None


def total_bytes(plan: MemoryPlan) -> int:
    return plan.weights_bytes + plan.cache_bytes + plan.compute_bytes + plan.engine_bytes


def device_bytes(plan: MemoryPlan) -> int:
    """What lies on the device that holds the model."""
    return total_bytes(plan) - (plan.engine_bytes if plan.on_gpu else 0)


_MOST_TOKENS = 2**27
"""No context is as long; one that takes no more than this one may be of any length."""
_AT_ONCE = 32  # lengths that are looked at in one request
_SHORTER = "--max-model-len {}"

Free: TypeAlias = Callable[[bool], int | None]
"""What is free, of GPUs or of main memory; `None` where it cannot be known."""


def free_now(limit: int | None = None) -> Free:
    """Of main memory, what is free when this is called, `limit` at most. So it is to be called
    before workers with tokenizers are started: they end before a model is loaded."""
    now = free_bytes(on_gpu=False)
    main = now if limit is None or now is None else min(now, limit)
    return lambda on_gpu: free_bytes(on_gpu=True) if on_gpu else main


def compared(plan: MemoryPlan, longest: int | None, free: int | None) -> Memory:
    """`longest` is the longest context that fits, of a cache that grows with it; `None` where that
    is not known."""
    needed = device_bytes(plan)
    left = None if free is None else free - needed
    holds, of_sequence = plan.cache_tokens, plan.tokens * plan.token_bytes
    is_too_large = left is not None and left < 0
    sequences = None
    if holds is not None:
        longest, sequences = (0, 0) if is_too_large else (holds, holds // plan.tokens)
    elif longest is not None and left is not None and of_sequence:
        sequences = max(1 + left // of_sequence, 0)
    is_too_small = holds is not None and holds < plan.tokens
    return Memory(
        device="gpu" if plan.on_gpu else "cpu",
        weights_bytes=plan.weights_bytes,
        cache_bytes=plan.cache_bytes,
        compute_bytes=plan.compute_bytes,
        engine_bytes=plan.engine_bytes,
        total_bytes=total_bytes(plan),
        device_bytes=needed,
        cache_tokens=holds,
        cache_option=plan.cache_option,
        free_bytes=free,
        fits=False if is_too_large or is_too_small else None if left is None else True,
        bytes_over=0 if left is None else max(-left, 0),
        longest_context=longest,
        parallel_sequences=sequences,
    )


Predict: TypeAlias = Callable[[Sequence[int]], Sequence[MemoryPlan] | None]


def memory_at(
    predict: Predict, lengths: Sequence[int], free: Free
) -> tuple[int, list[Memory]] | None:
    """What a token takes in the cache, and all for each length; `None` where the backend does not
    say."""
    plans = predict(lengths)
    if plans is None:
        return None
    left = free(plans[0].on_gpu)
    longest = _longest_context(predict, plans[0], left)
    return plans[0].token_bytes, [compared(plan, longest, left) for plan in plans]


def _longest_context(predict: Predict, plan: MemoryPlan, free: int | None) -> int | None:
    """The longest that takes no more than that, of a cache that grows; `plan` is of any length.
    `None` where that is not known: one of `_MOST_TOKENS` takes no more, or the backend does not say
    it of such lengths.

    No line through two lengths says it: engines round a context up, and what a token takes may
    depend on how many there are.
    """
    if free is None or plan.cache_option:
        return None
    low, high = 0, _MOST_TOKENS + 1  # as far as is known, `low` fits and `high` does not
    while high - low > 1:
        step = max((high - low) // _AT_ONCE, 1)
        lengths = range(low + step, high, step)
        try:
            plans = predict(lengths)
        except EngineError:
            return None
        if plans is None:
            return None
        for one in plans:
            if device_bytes(one) > free:
                high = one.tokens
                break
            low = one.tokens
    return low if low < _MOST_TOKENS else None


def check_memory(predict: Predict, length: int, free: Free, shorter: str = _SHORTER) -> None:
    """Raises `EngineError`, which says by how much, for a model that takes more than is free.
    `shorter` is how a command is given a length that fits."""
    try:
        plans = predict([length])
    except EngineError:  # files that cannot be right: loading them says what is wrong
        return
    if plans is None:
        return
    [plan] = plans
    left = free(plan.on_gpu)
    if lack_of_memory(compared(plan, None, left), length) is None:
        return
    # Only now is a length looked for that would fit: it takes many predictions.
    memory = compared(plan, _longest_context(predict, plan, left), left)
    if lack := lack_of_memory(memory, length, shorter):
        raise lack


def lack_of_memory(memory: Memory, length: int, shorter: str = _SHORTER) -> EngineError | None:
    """Why a context of this length cannot be had, and what to do; `None` where it can."""
    longest = memory.longest_context or 0
    use = f"Use {shorter.format(longest)}, or a" if longest >= 16 else "Use a"
    too_small = smallness(memory, length)
    if memory.bytes_over:
        where = "GPU memory" if memory.device == "gpu" else "memory"
        cache = _flag(memory.cache_option) or "KV cache type"
        smaller = "model" if too_small else f"model or {cache}"
        return EngineError(
            f"it would take {size(memory.device_bytes)} of {where} for {length:,} tokens of "
            f"context, and {size(memory.free_bytes or 0)} may be taken: "
            f"{size(memory.bytes_over)} too much",
            remedy=f"{use} smaller {smaller}; --force loads it all the same.",
        )
    if too_small:
        return EngineError(too_small, remedy=f"{use} larger {_flag(memory.cache_option)}.")
    return None


def smallness(memory: Memory, length: int) -> str:
    """Where a cache of fixed size cannot hold one sequence of this length: says so. Else empty."""
    holds = memory.cache_tokens
    if holds is None or holds >= length:
        return ""
    return (
        f"its KV cache of {size(memory.cache_bytes)} holds {holds:,} tokens, and {length:,} are "
        "wanted"
    )


def _flag(option: str) -> str:
    """Of an engine's option; empty for none."""
    return f"--{option.replace('_', '-')}" if option else ""
