"""Quantiles of times: which of them have an interval."""

from __future__ import annotations

import numpy as np
import pytest

from harness.record import Measured
from harness.stats.significance import Times
from harness.stats.tails import tail


def quantiles(count: int) -> dict[str, Measured]:
    times = np.random.default_rng(0).lognormal(size=count)
    found = tail(Times(tuple(np.array_split(times, 10))))
    assert found is not None
    return {"p50": found.p50, "p95": found.p95, "p99": found.p99}


@pytest.mark.parametrize(
    ("count", "known"),
    [(19, set()), (199, {"p50"}), (200, {"p50", "p95"}), (1000, {"p50", "p95", "p99"})],
)
def test_a_quantile_has_an_interval_where_ten_times_are_beyond_it(
    count: int, known: set[str]
) -> None:
    """Of fewer, the longest that was seen would be taken for the longest that can be."""
    found = quantiles(count)
    assert {name for name, one in found.items() if one.high is not None} == known
    assert found["p50"].value <= found["p95"].value <= found["p99"].value


def test_there_are_no_quantiles_of_no_times() -> None:
    assert tail(Times(())) is None
