"""How far one more of several equal measurements may be from them, on a machine that others use."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from harness.stats.growth import Interval
from harness.stats.significance import SAMPLE_SECONDS

CONFIDENCE = 0.9
_USUAL, _WEIGHT = 0.12, 8
"""Of equal runs on a machine that others use too, the standard deviation of the logarithm of the
time; and how many runs that counts as. One run alone says nothing of it."""
_GROWS, _GROWS_SPREAD = 1.0, 0.15
"""The power of 1 / share that times grow with, before runs at several shares say otherwise: half of
the processors, twice the time. Engines whose threads wait for each other lose more than that."""


def likely_share(tried: float, earlier: Sequence[float], unsteadiness: float) -> float:
    """Which share of the processors the next run has, by the share in one second and those that
    earlier runs had, all above 0.

    A second is not a run. If parts of a run differ in time by `unsteadiness` (standard deviation of
    the logarithm), a second may differ as much from its run, and says nothing new. So of its
    difference from the earlier runs (of logarithms) only the share 1 - unsteadiness² / difference²
    counts, and nothing where that is negative (the positive-part estimator of James and Stein).
    """
    usual = float(np.log(np.asarray(earlier, dtype=np.float64)).mean())
    differs = math.log(tried) - usual
    if abs(differs) <= unsteadiness:
        return math.exp(usual)
    return math.exp(usual + differs * (1 - (unsteadiness / differs) ** 2))


def one_more(
    measured: Sequence[float], shares: Sequence[float], share: float, unsteadiness: float = 0.0
) -> Interval:
    """The seconds measured at these shares of the processors, all above 0, as they would be at
    another share: the middle, and within what one more is in 9 of 10 cases.

    What disturbs a run lasts for some seconds. So runs whose parts differ by `unsteadiness`, as for
    `likely_share`, differ by that over the root of how many such times they last.

    The logarithms are on a line over log(1 / share), by least squares. Its slope is known before as
    well as `_GROWS_SPREAD` says (Bayesian linear regression with a normal prior).
    """
    from scipy import stats

    times = np.log(np.asarray(measured, dtype=np.float64))
    scarcity = -np.log(np.asarray(shares, dtype=np.float64))
    count, middle = len(times), float(scarcity.mean())
    at_once = math.sqrt(SAMPLE_SECONDS / math.exp(times.mean()))
    usual = max(_USUAL, unsteadiness * min(at_once, 1.0))
    away = scarcity - middle
    known_before = (_USUAL / _GROWS_SPREAD) ** 2
    weight = float((away**2).sum()) + known_before
    grows = (float((away * times).sum()) + known_before * _GROWS) / weight
    ahead = -math.log(share) - middle
    mean = float(times.mean()) + grows * ahead
    left = times - times.mean() - grows * away
    freedom = _WEIGHT + count - 1
    squares = _WEIGHT * usual**2 + float((left**2).sum())
    often = float(stats.t.ppf((1 + CONFIDENCE) / 2, freedom))
    wide = often * math.sqrt(squares / freedom * (1 + 1 / count + ahead**2 / weight))
    return Interval(math.exp(mean), math.exp(mean - wide), math.exp(mean + wide))
