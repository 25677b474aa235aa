"""Intervals: published values, laws, and data that leave nothing to resample."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from harness.stats.intervals import clustered_bootstrap, wilson


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    # Newcombe (1998), Statistics in Medicine 17, 857-872, table I, method 3
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_as_published(successes: int, n: int, low: float, high: float) -> None:
    estimate = wilson(successes, n)
    assert (estimate.value, round(estimate.low, 4), round(estimate.high, 4)) == (
        successes / n,
        low,
        high,
    )


@settings(deadline=None)
@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_holds_its_share_and_mirrors(case: tuple[int, int]) -> None:
    successes, n = case
    estimate, mirrored = wilson(successes, n), wilson(n - successes, n)
    assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1
    assert estimate.low == pytest.approx(1 - mirrored.high)


def test_a_share_of_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="not less than 1"):
        wilson(0, 0)


def test_bootstrap_gives_the_mean_of_the_cells_that_are_there() -> None:
    correct = np.array([[1.0, 0.0, np.nan, 1.0], [1.0, np.nan, np.nan, 0.0]])
    estimate = clustered_bootstrap(correct, seed=1)
    assert estimate.value == pytest.approx(3 / 5)
    assert estimate.low < 3 / 5 < estimate.high
    assert estimate == clustered_bootstrap(correct, seed=1)


def test_bootstrap_takes_queries_as_the_cases() -> None:
    """Nine voters that all say the same are worth one voter, not nine."""
    one = (np.random.default_rng(0).random((1, 80)) < 0.7).astype(np.float64)
    nine = np.repeat(one, 9, axis=0)
    assert clustered_bootstrap(nine, seed=3) == clustered_bootstrap(one, seed=3)
    estimate = clustered_bootstrap(nine, seed=3)
    by_queries = wilson(int(one.sum()), 80)
    assert estimate.low == pytest.approx(by_queries.low, abs=0.03)
    assert estimate.high == pytest.approx(by_queries.high, abs=0.03)


@pytest.mark.parametrize(
    ("shape", "value"), [((3, 5), 1.0), ((3, 5), 0.0), ((2, 1), 1.0), ((1, 1), 0.0)]
)
def test_queries_that_agree_have_wilsons_interval(shape: tuple[int, int], value: float) -> None:
    queries = shape[1]
    assert clustered_bootstrap(np.full(shape, value), seed=0) == wilson(
        int(value * queries), queries
    )


@settings(deadline=None, max_examples=30)
@given(
    hnp.arrays(
        np.float64,
        st.tuples(st.integers(1, 4), st.integers(1, 6)),
        elements=st.sampled_from([0.0, 1.0, np.nan]),
    )
)
def test_bootstrap_never_fails_where_there_is_a_cell(correct: NDArray[np.float64]) -> None:
    correct[0, 0] = 1.0
    estimate = clustered_bootstrap(correct, seed=0)
    assert estimate.value == pytest.approx(np.nanmean(correct))
    assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1
