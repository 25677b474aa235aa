from __future__ import annotations

import numpy as np
import pytest

from harness.stats.spread import one_more


@pytest.mark.parametrize("runs", [1, 2, 5, 10])
def test_one_more_is_within_in_nine_of_ten_cases(runs: int) -> None:
    """Of a machine on which equal runs differ by 10 %; an interval is not too wide, either."""
    rng = np.random.default_rng(runs)
    held = 0
    for _ in range(400):
        *before, now = 100 * np.exp(rng.normal(0, 0.1, runs + 1))
        found = one_more(before)
        held += found.low <= now <= found.high
        assert found.high <= 2 * found.low
    assert held >= 360


def test_runs_that_differ_much_have_a_wide_interval() -> None:
    calm, wild = one_more([100, 101, 99, 100]), one_more([50, 100, 200, 100])
    assert wild.value == pytest.approx(calm.value, rel=0.01)
    assert wild.high / wild.low > 2 * calm.high / calm.low
