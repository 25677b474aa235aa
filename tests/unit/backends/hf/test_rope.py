"""The parameters of Llama 3's positions, found again in the factors that were made of them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from backends.hf.rope import llama3_parameters


def scaled_by(
    factor: float, low: float, high: float, original: int, width: int = 16, theta: float = 1e4
) -> NDArray[np.float32]:
    """As llama.cpp's converter makes them, in the steps of its own code."""
    made = []
    for exponent in np.arange(0, width, 2, dtype=np.float32) / np.float32(width):
        wave = 2 * math.pi / float(np.float32(1) / np.float32(theta) ** exponent)
        if wave < original / high:
            made.append(1.0)
        elif wave > original / low:
            made.append(factor)
        else:
            smooth = (original / wave - low) / (high - low)
            made.append(1 / ((1 - smooth) / factor + smooth))
    return np.array(made, dtype=np.float32)


@pytest.mark.parametrize(
    ("factor", "low", "high", "original", "width", "theta"),
    [
        (8.0, 1.0, 4.0, 8192, 128, 5e5),  # Llama 3.1
        (32.0, 1.0, 4.0, 8192, 64, 5e5),  # Llama 3.2
        (16.0, 2.0, 6.0, 4096, 128, 5e5),
        (4.0, 1.0, 8.0, 32768, 128, 1e6),
        (8.0, 1.0, 4.0, 64, 16, 1e4),
        (1.0, 1.0, 4.0, 8192, 128, 5e5),
    ],
)
def test_parameters_are_found_that_scale_as_the_factors_do(
    factor: float, low: float, high: float, original: int, width: int, theta: float
) -> None:
    factors = scaled_by(factor, low, high, original, width, theta).astype(float)
    found = llama3_parameters(factors, theta)
    assert found is not None
    assert found["factor"] == factor
    again = scaled_by(
        factor,
        low=found["low_freq_factor"],
        high=found["high_freq_factor"],
        original=found["original_max_position_embeddings"],
        width=width,
        theta=theta,
    )
    np.testing.assert_allclose(again, factors, rtol=1e-5)


@pytest.mark.parametrize("wrong", [1.001, 0.0, -1.0, math.nan, math.inf])
def test_factors_of_another_kind_have_none(wrong: float) -> None:
    factors = scaled_by(8.0, 1.0, 4.0, 8192, 128, 5e5).astype(float)
    factors[20] *= wrong
    assert llama3_parameters(factors, 5e5) is None
    assert llama3_parameters(np.linspace(1, 8, 64), 5e5) is None
