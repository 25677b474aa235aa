from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

import harness.fit.memory
from harness.contract import MemoryPlan
from harness.errors import EngineError
from harness.fit.memory import check_memory, compared, free_now, memory_at

MIB = 2**20


def predicted(tokens: Sequence[int], on_gpu: bool = False) -> list[MemoryPlan]:
    """100 MiB, and 1 MiB a token, of which the cache has three quarters."""
    return [
        MemoryPlan(n, 60 * MIB, 3 * n * MIB // 4, 3 * MIB // 4, n * MIB // 4, 40 * MIB, on_gpu)
        for n in tokens
    ]


def test_the_longest_context_and_the_sequences_that_would_hold() -> None:
    [plan] = predicted([100])
    memory = compared(plan, 400, free=500 * MIB)
    assert (memory.total_bytes, memory.fits, memory.bytes_over) == (200 * MIB, True, 0)
    assert memory.longest_context == 400
    # a further sequence takes 75 MiB of cache, and 300 MiB are left
    assert memory.parallel_sequences == 5


def test_what_does_not_fit_says_by_how_much() -> None:
    [plan] = predicted([100])
    memory = compared(plan, 50, free=150 * MIB)
    assert (memory.fits, memory.bytes_over) == (False, 50 * MIB)
    assert (memory.longest_context, memory.parallel_sequences) == (50, 0)


def test_without_a_figure_of_what_is_free_nothing_is_said_to_fit() -> None:
    [plan] = predicted([100], on_gpu=True)
    memory = compared(plan, None, free=None)
    assert (memory.device, memory.fits, memory.longest_context) == ("gpu", None, None)


def test_all_lengths_are_predicted_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness.fit.memory, "free_bytes", lambda on_gpu: 500 * MIB)
    found = memory_at(predicted, [100, 300, 600], free_now())
    assert found is not None
    assert found[0] == 3 * MIB // 4
    assert [(one.fits, one.longest_context) for one in found[1]] == [
        (True, 400),
        (True, 400),
        (False, 400),
    ]


@pytest.mark.parametrize("free", [150, 50])
def test_a_model_that_takes_more_than_is_free_is_refused(
    monkeypatch: pytest.MonkeyPatch, free: int
) -> None:
    monkeypatch.setattr(harness.fit.memory, "free_bytes", lambda on_gpu: free * MIB)
    with pytest.raises(EngineError) as refused:
        check_memory(predicted, 100, free_now())
    assert str(refused.value) == (
        "it would take 200 MiB of memory for 100 tokens of context, and "
        f"{free} MiB may be taken: {200 - free} MiB too much"
    )
    assert ("--max-model-len 50," in refused.value.remedy) == (free == 150)
    assert "--force" in refused.value.remedy


def test_what_cannot_be_predicted_is_not_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: Sequence[int]) -> None:
        raise EngineError("its head lies")  # loading it says so too

    monkeypatch.setattr(harness.fit.memory, "free_bytes", lambda on_gpu: 1)
    check_memory(broken, 100, free_now())
    check_memory(lambda _: None, 100, free_now())


def test_of_a_gpus_memory_the_engines_process_takes_nothing() -> None:
    found = memory_at(lambda tokens: predicted(tokens, on_gpu=True), [100], lambda _: 170 * MIB)
    assert found is not None
    [memory] = found[1]
    assert (memory.total_bytes, memory.device_bytes) == (200 * MIB, 160 * MIB)
    assert (memory.fits, memory.longest_context) == (True, 110)


@pytest.mark.parametrize("length", [1, 60, 255, 257, 1000, 100_000])
@pytest.mark.parametrize("free", [165, 300, 1000])
def test_the_longest_context_is_one_that_fits_and_no_longer_one_does(
    length: int, free: int
) -> None:
    """As with llama.cpp, a context is rounded up, to 256 tokens here."""

    def rounded(tokens: Sequence[int]) -> list[MemoryPlan]:
        held = predicted([-(-n // 256) * 256 for n in tokens])
        return [
            replace(one, tokens=n, cache_bytes=one.cache_bytes // 4)
            for n, one in zip(tokens, held, strict=True)
        ]

    found = memory_at(rounded, [length], lambda _: free * MIB)
    assert found is not None
    [memory] = found[1]
    assert memory.longest_context == (free - 100) // (7 / 16) // 256 * 256
    assert memory.fits == (length <= memory.longest_context)


@pytest.mark.parametrize("raises", [False, True])
def test_a_backend_that_predicts_no_longer_contexts_is_compared_all_the_same(raises: bool) -> None:
    def bounded(tokens: Sequence[int]) -> list[MemoryPlan] | None:
        if max(tokens) <= 4096:
            return predicted(tokens)
        if raises:
            raise EngineError("more than the model was made for")
        return None

    found = memory_at(bounded, [100], lambda _: 1000 * MIB)
    assert found is not None
    assert (found[1][0].fits, found[1][0].longest_context) == (True, None)
    with pytest.raises(EngineError, match="too much"):
        check_memory(bounded, 100, lambda _: 10)


def test_of_what_takes_the_same_for_each_length_no_longest_is_known() -> None:
    def recurrent(tokens: Sequence[int]) -> list[MemoryPlan]:
        return [MemoryPlan(n, 60 * MIB, 30 * MIB, 0, 10 * MIB, 0) for n in tokens]

    enough, too_little = (
        memory_at(recurrent, [100], lambda _: 100 * MIB),
        memory_at(recurrent, [100], lambda _: 99 * MIB),
    )
    assert enough is not None
    assert too_little is not None
    assert enough[1][0].longest_context is None
    assert too_little[1][0].longest_context == 0


FIXED = MemoryPlan(100, 60 * MIB, 90 * MIB, MIB // 8, 0, 40 * MIB, False, 720, "kv_cache_gib")


@pytest.mark.parametrize(
    ("tokens", "free", "fits", "longest", "sequences"),
    [(100, 200, True, 720, 7), (721, 200, False, 720, 0), (100, 180, False, 0, 0)],
)
def test_a_cache_of_fixed_size_limits_the_length(
    tokens: int, free: int, fits: bool, longest: int, sequences: int
) -> None:
    plan = replace(FIXED, tokens=tokens)
    memory = compared(plan, None, free * MIB)
    assert (memory.fits, memory.longest_context) == (fits, longest)
    assert memory.parallel_sequences == sequences
    assert memory.bytes_over == max(190 - free, 0) * MIB
    unknown = compared(plan, None, None)
    assert unknown.fits is (False if tokens > 720 else None)
    assert unknown.longest_context == 720


def test_a_length_that_a_cache_of_fixed_size_cannot_hold_is_refused() -> None:
    def predict(tokens: Sequence[int]) -> list[MemoryPlan]:
        return [replace(FIXED, tokens=n) for n in tokens]

    check_memory(predict, 720, lambda _: 200 * MIB)
    with pytest.raises(EngineError) as refused:
        check_memory(predict, 721, lambda _: 200 * MIB)
    assert str(refused.value) == "its KV cache of 90 MiB holds 720 tokens, and 721 are wanted"
    assert refused.value.remedy == "Use --max-model-len 720, or a larger --kv-cache-gib."
    with pytest.raises(EngineError, match="10 MiB too much") as refused:
        check_memory(predict, 100, lambda _: 180 * MIB)
    assert refused.value.remedy.startswith("Use a smaller model or --kv-cache-gib;")
    with pytest.raises(EngineError, match="10 MiB too much") as refused:
        check_memory(predict, 721, lambda _: 180 * MIB)
    assert refused.value.remedy.startswith("Use a smaller model;")


def test_what_is_free_is_what_was_free_before_and_no_more_than_the_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    free = [500, 300]
    monkeypatch.setattr(
        harness.fit.memory, "free_bytes", lambda on_gpu: 70 if on_gpu else free.pop(0)
    )
    before, limited = free_now(), free_now(limit=200)
    assert [one(False) for one in (before, limited, before)] == [500, 200, 500]
    assert limited(True) == 70


def test_of_a_model_that_fits_one_length_is_predicted() -> None:
    """Each run is checked, and waits for it."""
    lengths: list[int] = []

    def counted(tokens: Sequence[int]) -> list[MemoryPlan]:
        lengths.extend(tokens)
        return predicted(tokens)

    check_memory(counted, 100, lambda _: 200 * MIB)
    assert lengths == [100]
