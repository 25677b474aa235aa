"""Quantiles of times and their intervals: no further out than the times show."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.record import Measured
from harness.stats.significance import LEAST_SAMPLES, Times
from harness.stats.tails import tail
from harness.summary import Tail


def of(times: Times) -> Tail:
    found = tail(times)
    assert found is not None
    return found


def drawn(seed: int, blocks: int, replies: int) -> Times:
    """Independent times with a long tail."""
    draw = np.random.default_rng(seed)
    return Times(tuple(draw.lognormal(size=replies) for _ in range(blocks)))


@given(st.lists(st.lists(st.floats(1e-3, 1e6), min_size=1, max_size=9), min_size=1, max_size=12))
def test_a_quantile_is_numpys_and_lies_within_its_interval_and_that_within_the_times(
    blocks: list[list[float]],
) -> None:
    times = Times(tuple(map(np.array, blocks)))
    every, found = np.concatenate(times.blocks), of(times)
    ends = []
    for quantile, one in ((0.5, found.p50), (0.95, found.p95), (0.99, found.p99)):
        assert one.value == pytest.approx(np.quantile(every, quantile))
        ends.append(np.inf if one.high is None else one.high)
        if one.low is None:
            assert one.high is None
            continue
        assert len(blocks) >= LEAST_SAMPLES
        assert every.min() <= one.low <= one.value
        assert one.high is None or one.value <= one.high * (1 + 1e-9) <= every.max() * (1 + 1e-8)
    known = [
        end for end, one in zip(ends, (found.p50, found.p95, found.p99), strict=True) if one.low
    ]
    assert known == sorted(known)
    lows = [one.low for one in (found.p50, found.p95, found.p99) if one.low is not None]
    assert lows == sorted(lows)


def test_few_requests_show_no_upper_end_of_their_slowest() -> None:
    """Of 60 requests none may be among the slowest 5 %; of 3,000 many are among the slowest 1 %."""
    few, many = of(drawn(1, 10, 6)), of(drawn(1, 30, 100))
    assert [one.high is None for one in (few.p50, few.p95, few.p99)] == [False, True, True]
    assert few.p95.low is not None
    assert [one.high is None for one in (many.p50, many.p95, many.p99)] == [False] * 3


def test_the_interval_holds_the_quantile_of_all_requests_that_could_be_sent() -> None:
    truth = np.exp(1.6448536)  # of a standard lognormal distribution, p95
    found = [of(drawn(seed, 25, 16)).p95 for seed in range(200)]
    held = [one.low <= truth <= (one.high or np.inf) for one in found if one.low]
    assert np.mean(held) >= 0.95


def test_requests_that_are_slow_together_say_less() -> None:
    """Every second one of a few blocks is slow, and no other."""
    alone = [np.where(np.arange(20) % 10 == 0, 9.0, 1.0) + 0.01 * place for place in range(20)]
    together = [np.full(20, 9.0 if place % 10 == 0 else 1.0) + 0.01 * place for place in range(20)]
    assert width(of(Times(tuple(together))).p95) >= width(of(Times(tuple(alone))).p95)


def width(one: Measured) -> float:
    return np.inf if one.high is None or one.low is None else one.high - one.low


def test_without_times_there_is_no_quantile() -> None:
    assert tail(Times(())) is None
