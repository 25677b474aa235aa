"""How far one more of several equal measurements may be from them, on a machine that others use."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from harness.stats.growth import Interval

CONFIDENCE = 0.9
_USUAL, _WEIGHT = 0.12, 8
"""Of equal runs on a machine that others use too, the standard deviation of the logarithm of the
time; and how many runs that counts as. One run alone says nothing of it."""
DISTURBED_SECONDS = 5.0
"""For so long a disturbance of a machine lasts: neighbouring samples of 3.5 s are alike, those two
places apart hardly (docs/METRICS.md)."""
_GROWS, _GROWS_SPREAD = 1.0, 0.15
"""The power of 1 / share that times grow with, before runs at several shares say otherwise: half of
the processors, twice the time. Engines whose threads wait for each other lose more than that."""
_LEAST_PARTS = 3  # that say how far parts differ

Samples: TypeAlias = NDArray[np.float64]


def unsteadiness_of(took: Samples, said: Samples, part_seconds: float) -> float | None:
    """How much the times of parts of a run differ: the standard deviation of the logarithms of what
    they took over what was said of them, as if each were as long as a disturbance.

    What a run's pieces took, in their order, and what was said of each is in seconds, (pieces,).
    They are joined to parts of `part_seconds` or more. A part that is longer than a disturbance is
    the mean of several, which differ by more than it does. `None` for fewer than three parts.
    """
    ends = np.cumsum(took)
    part = ((ends - took) // part_seconds).astype(int)
    of_part, expected = (np.bincount(part, weights=one) for one in (took, said))
    whole = (of_part >= part_seconds / 2) & (expected > 0)
    if np.count_nonzero(whole) < _LEAST_PARTS:
        return None
    disturbances = max(float(of_part[whole].mean()) / DISTURBED_SECONDS, 1.0)
    differ = np.log(of_part[whole] / expected[whole]).std(ddof=1)
    return float(differ) * math.sqrt(disturbances)


def likely_share(tried: float, earlier: Sequence[float], unsteadiness: float) -> float:
    """Which share of the processors the next run has, by the share in one second and those that
    earlier runs had, all above 0.

    A second is not a run. `unsteadiness` is what `unsteadiness_of` gives for those runs. If a
    second differs from them by no more than that, it is ignored; the further beyond that it is, the
    more it counts: of the difference of logarithms, the share 1 - unsteadiness² / difference².
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

    Runs whose parts differ by `unsteadiness`, as for `likely_share`, differ by that over the root
    of how many such parts they have.

    The logarithms are on a line over log(1 / share), by least squares. Its slope is known before as
    well as `_GROWS_SPREAD` says (Bayesian linear regression with a normal prior).
    """
    from scipy import stats

    times = np.log(np.asarray(measured, dtype=np.float64))
    scarcity = -np.log(np.asarray(shares, dtype=np.float64))
    count, middle = len(times), float(scarcity.mean())
    parts = max(math.exp(times.mean()) / DISTURBED_SECONDS, 1.0)
    usual = max(_USUAL, unsteadiness / math.sqrt(parts))
    away = scarcity - middle
    known_before = (usual / _GROWS_SPREAD) ** 2
    weight = float((away**2).sum()) + known_before
    grows = (float((away * times).sum()) + known_before * _GROWS) / weight
    ahead = -math.log(share) - middle
    mean = float(times.mean()) + grows * ahead
    left = times - times.mean() - grows * away
    freedom = _WEIGHT + count - 1
    # The last is how far the runs contradict what is known of the slope.
    squares = _WEIGHT * usual**2 + float((left**2).sum()) + known_before * (grows - _GROWS) ** 2
    often = float(stats.t.ppf((1 + CONFIDENCE) / 2, freedom))
    wide = often * math.sqrt(squares / freedom * (1 + 1 / count + ahead**2 / weight))
    return Interval(math.exp(mean), math.exp(mean - wide), math.exp(mean + wide))
