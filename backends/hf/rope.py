"""The positions of Llama 3 models, which a GGUF file scales by a tensor and transformers by four
parameters.

llama.cpp divides the frequency of each pair of numbers by its factor in `rope_freqs.weight`. Its
converter makes the factors of the parameters: 1 where a wave is short, `factor` where it is long,
and in between what leads from one to the other. So the parameters can be found again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

TENSOR = "rope_freqs.weight"

Factors = NDArray[np.float64]

_ORIGINAL = 8192
"""What the two limits are given in. Only their ratio to it has an effect, so any number will do;
this is Llama 3's, with limits of 1 and 4."""
_ROUNDING = 1e-5
"""By so much the factors may differ, relatively: float32 waves leave up to 3e-6."""


def llama3_parameters(factors: Factors, theta: float) -> Mapping[str, Any] | None:
    """transformers' `rope_parameters` that scale as the tensor does; `None` where none are found.

    `theta` is the base of the frequencies.
    """
    waves = 2 * np.pi * theta ** (np.arange(len(factors)) / len(factors))
    longest = float(factors[-1])
    for low, high in _limits(factors, waves):
        scaled = _scaled(waves, longest, low, high)
        if np.allclose(scaled, factors, rtol=_ROUNDING, atol=0):
            return {
                "rope_type": "llama3",
                "rope_theta": theta,
                "factor": longest,
                "low_freq_factor": low,
                "high_freq_factor": high,
                "original_max_position_embeddings": _ORIGINAL,
            }
    return None


def _limits(factors: Factors, waves: Factors) -> Iterator[tuple[float, float]]:
    """The low and the high limit: as they usually are, and as the factors between 1 and the
    longest wave's tell them."""
    yield 1.0, 4.0
    longest = factors[-1]
    between = (factors > 1) & (factors < longest)
    if between.sum() >= 2:
        # 0 at the low limit and 1 at the high one, in a line over the frequency
        smooth = (1 / factors[between] - 1 / longest) / (1 - 1 / longest)
        slope, offset = np.polyfit(_ORIGINAL / waves[between], smooth, 1)
        yield float(-offset / slope), float((1 - offset) / slope)


def _scaled(waves: Factors, factor: float, low: float, high: float) -> Factors:
    """The factor of each wave, as llama.cpp's converter computes it."""
    smooth = np.clip((_ORIGINAL / waves - low) / (high - low), 0, 1)
    return 1 / ((1 - smooth) / factor + smooth)
