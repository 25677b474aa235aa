"""P-values that are adjusted for how many there are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's (1979), Scand. J. Stat. 6, 65-70: the smallest of n times n, the next times n - 1, and
    so on; none is less than the one before it, nor more than 1.

    statsmodels has it, and collects the garbage of the whole process at each call: 0.2 s of ours.
    """
    values = np.array(p_values, dtype=np.float64)
    order = np.argsort(values)
    adjusted = np.empty_like(values)
    adjusted[order] = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1))
    return [float(value) for value in np.minimum(adjusted, 1.0)]
