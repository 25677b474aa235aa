"""What an engine answers, found in workers that die of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.contract import MemoryPlan
from harness.engine.engine import plan_engine
from harness.errors import EngineError
from harness.fit.probe import PRECISION, Prediction, Probe, probe, search
from harness.machine.memory import MIB
from harness.spec import RunSpec, entries_of

KIB = 1024


@given(truth=st.integers(0, 300_000), window=st.integers(64, 131_072), beyond=st.integers(0, 2))
def test_the_longest_is_between_what_was_answered_and_what_was_not(
    truth: int, window: int, beyond: int
) -> None:
    tried: list[int] = []

    def answers(length: int) -> bool:
        tried.append(length)
        return length <= truth

    ceiling = window * (1 + beyond)
    answered, failed = search(answers, window, ceiling)
    assert len(tried) == len(set(tried)) <= 4 + 3 + 18
    if failed is None:
        assert answered == max(tried) == ceiling <= truth
    else:
        assert answered <= truth < failed <= ceiling
        assert failed - answered <= max(failed * PRECISION, 1) or (answered, failed) == (0, 64)


def probed(folder: Path, longest: int | None = None, **given: Any) -> Probe:
    limit = given.pop("memory_limit", None)
    options = {"declared": 4000, **given}
    spec = RunSpec(backend=("mock",), engine=options, memory_limit=limit)
    plan = plan_engine(entries_of(spec)[0], spec, folder)
    with_tokenizer = plan.open_tokenizer()
    try:
        info = with_tokenizer.info
        predicted = Prediction.of(with_tokenizer.predict_memory([1000, 2000]))
    finally:
        with_tokenizer.close()
    return probe(plan, info, longest, predicted, lambda _: None)


def test_what_dies_of_a_prompt_is_found_beyond_the_window(tmp_path: Path) -> None:
    found = probed(tmp_path, longest=16_000, longest_prompt=9000)
    assert 9000 * (1 - PRECISION) < found.answered_tokens <= 9001
    assert found.failed_tokens is not None
    assert 9001 < found.failed_tokens <= 9001 * (1 + PRECISION)
    assert (found.declared_context, found.allocated_context) == (4000, found.answered_tokens)
    died = [one for one in found.steps if one.outcome == "failed"]
    assert all("was killed (signal 9)" in one.reason for one in died)
    assert len(found.prefills) >= 7


def test_without_a_length_it_goes_a_little_beyond_the_window(tmp_path: Path) -> None:
    found = probed(tmp_path)
    assert (found.answered_tokens, found.failed_tokens) == (5000, None)
    assert [one.tokens for one in found.steps] == [1000, 2000, 3000, 4000, 5000]


def test_a_memory_limit_is_found_and_is_an_answer(tmp_path: Path) -> None:
    """16 KiB a token, under a limit that leaves room for about 3,000 tokens."""
    free = probed(tmp_path, longest=1000, token_kib=16)
    # The least of several: an interpreter that compiles a module has a peak of its own.
    bare = min(
        (one.measured.peak_rss_bytes or 0) - one.tokens * 16 * KIB
        for one in free.steps
        if one.measured is not None
    )
    limit = bare + 3000 * 16 * KIB
    found = probed(tmp_path, token_kib=16, memory_gib=0.01, memory_limit=limit)
    assert found.answered_tokens == pytest.approx(3000, rel=0.1)
    assert found.memory_limit_bytes == limit
    assert {one.outcome for one in found.steps} == {"answered", "memory"}
    assert found.kv_bytes_per_token == 16 * KIB
    assert found.bytes_per_token is not None
    assert found.bytes_per_token.value == pytest.approx(16 * KIB, rel=0.1)


def test_a_token_takes_nothing_of_a_cache_that_is_taken_at_once() -> None:
    plans = [MemoryPlan(n, 60 * MIB, 90 * MIB, 9 * KIB, 0, 40 * MIB) for n in (1000, 2000)]
    growing, fixed = (
        Prediction.of([replace(one, cache_option=option) for one in plans])
        for option in ("", "kv_cache_gib")
    )
    assert growing is not None
    assert fixed is not None
    assert (growing.token_bytes, fixed.token_bytes) == (9 * KIB, None)


def test_a_limit_below_what_the_interpreter_takes_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="less than the engine takes before it loads a model"):
        probed(tmp_path, longest=1000, memory_limit=4 * MIB)


def test_an_engine_that_allocates_less_than_was_wanted_answers_no_more(tmp_path: Path) -> None:
    found = probed(tmp_path, longest=4000, context=1500)
    assert found.answered_tokens == pytest.approx(1500, rel=0.05)
    assert found.allocated_context == 1500
    assert any(one.reason.endswith("overflow") for one in found.steps)
