from __future__ import annotations

import numpy as np
import pytest

from harness.stats.growth import Growth, slope

TOKENS = [512, 1024, 1536, 2048, 4096, 6144, 8192]


def seconds(noise: float, seed: int, tokens: float | list[int] = TOKENS) -> list[float]:
    """8 ms a token, and 0.5 µs for each token before it, within `noise`."""
    n = np.atleast_1d(np.asarray(tokens, dtype=np.float64))
    off = np.exp(np.random.default_rng(seed).normal(0, noise, len(n)))
    return list((0.008 * n + 5e-7 * n**2) * off)


def test_the_two_parts_are_found() -> None:
    found = Growth.of(TOKENS, seconds(0, 0))
    assert found is not None
    assert found.linear.value == pytest.approx(0.008)
    assert found.quadratic.value == pytest.approx(5e-7)
    assert found.seconds(32_768).value == pytest.approx(seconds(0, 0, 32_768)[0])


@pytest.mark.parametrize("length", [16_384, 131_072])
def test_the_interval_holds_what_was_not_measured(length: int) -> None:
    held = 0
    for seed in range(200):
        found = Growth.of(TOKENS, seconds(0.05, seed))
        assert found is not None
        span = found.seconds(length)
        held += span.low <= seconds(0.05, 1000 + seed, length)[0] <= span.high
    assert held >= 180


def test_noise_does_not_make_long_prompts_cheap() -> None:
    found = Growth.of([1000, 2000, 3000, 4000], [9.0, 17.0, 24.0, 31.0])
    assert found is not None
    assert found.quadratic.value < 0
    span = found.seconds(100_000)
    assert span.value == pytest.approx(100_000 * np.mean([9 / 1, 17 / 2, 24 / 3, 31 / 4]) / 1000)
    assert 0 <= span.low < span.value < span.high


@pytest.mark.parametrize("x", [[1.0, 2.0], [3.0, 3.0, 3.0]])
def test_too_few_points_say_nothing(x: list[float]) -> None:
    assert slope(x, x) is None
    assert Growth.of(x, x) is None


def test_a_slope_has_its_interval() -> None:
    found = slope([1, 2, 3, 4], [10.1, 11.9, 14.1, 15.9])
    assert found is not None
    assert found.value == pytest.approx(1.96)
    assert found.low < 1.96 < found.high < 2.5
