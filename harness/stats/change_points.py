"""Where the level of a history changes. Pure functions over values in the order of time.

Candidates come from PELT (Killick, Fearnhead and Eckley 2012), which takes the best places for any
number of changes at once, with a Gaussian kernel for its cost (Arlot, Celisse and Harchaoui 2019):
a value far from all others counts as far, however far it is, so that a single bad run is no level.
The kernel is as wide as neighbouring runs differ. A change costs log n, which is stricter than n
independent values need: runs that follow each other are alike, and that looks like small steps.
What `tests/unit/stats/test_change_points.py` measures of that stands in `docs/REGRESSIONS.md`.

Each candidate is then tested between the two levels beside it by Mann and Whitney's (1947) U,
two-sided, with Holm's (1979) correction over all candidates. While one of them fails, the weakest
is dropped, the levels beside it become one, and those that are left are tested again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from harness.stats.holm import holm

Values: TypeAlias = NDArray[np.float64]

ALPHA = 0.05
LEAST_RUNS = 5
"""On either side of a change. With four, Mann and Whitney's p is 0.029 at best, which Holm's
correction for a second change puts above 0.05; with five it is 0.0079."""
# Standard deviation of a normal distribution over its median magnitude (1 / 0.6745) and over its
# mean magnitude (root of pi / 2).
_NORMAL_OVER_MEDIAN = 1.4826
_NORMAL_OVER_MEAN = 1.2533


@dataclass(frozen=True, slots=True)
class ChangePoint:
    """From the value at `index` on, counted from 0, the level is `after`; it was `before`.

    Levels are medians between neighbouring changes.
    """

    index: int
    before: float
    after: float
    p_adjusted: float


def find(values: Sequence[float]) -> list[ChangePoint]:
    """The changes of level, with at least `LEAST_RUNS` values between them and beside them."""
    history = np.asarray(values, dtype=np.float64)
    places = _candidates(history)
    while places:
        levels = np.split(history, places)
        raw = [_p_value(before, after) for before, after in pairwise(levels)]
        adjusted = holm(raw)
        if max(adjusted) < ALPHA:
            return _changes(places, levels, adjusted)
        # One at a time: without it the levels beside it become one, which changes the p-values of
        # its neighbours and the correction of all.
        del places[int(np.argmax(raw))]
    return []


def _changes(
    places: Sequence[int], levels: Sequence[Values], adjusted: Sequence[float]
) -> list[ChangePoint]:
    medians = [float(np.median(level)) for level in levels]
    return [
        ChangePoint(place, *around, p_adjusted)
        for place, around, p_adjusted in zip(places, pairwise(medians), adjusted, strict=True)
    ]


def _candidates(history: Values) -> list[int]:
    """Where segments begin, but the first."""
    from ruptures import KernelCPD

    # For equal values the usual step is 0, and so would be the width of the kernel.
    if len(history) < 2 * LEAST_RUNS or not np.ptp(history):
        return []
    width = _usual_step(history)
    # ruptures' kernel is exp(-gamma d²): at 1/2, and with values in units of the usual step, that
    # is the Gaussian curve whose standard deviation is one usual step.
    kernel = KernelCPD(kernel="rbf", min_size=LEAST_RUNS, params={"gamma": 1 / 2})
    # ruptures takes (values, dimensions).
    ends = kernel.fit((history / width)[:, None]).predict(pen=np.log(len(history)))
    # It gives the end of each segment, the end of the history too.
    return [int(end) for end in ends[:-1]]


def _usual_step(history: Values) -> float:
    """The standard deviation of what neighbours differ by, were they normal.

    From the median, which a few changes of level do not move; from the mean where most neighbours
    are equal.
    """
    steps = np.abs(np.diff(history))
    return float(np.median(steps) * _NORMAL_OVER_MEDIAN or steps.mean() * _NORMAL_OVER_MEAN)


def _p_value(before: Values, after: Values) -> float:
    """1 where the medians are equal: that is no other level, whatever else differs."""
    from scipy.stats import mannwhitneyu

    # The rank test may also find a difference in spread.
    if np.median(before) == np.median(after):
        return 1.0
    return float(mannwhitneyu(before, after).pvalue)
