"""Where a curve stops rising, such as accuracy against the number of examples.

The points are tested from the left: is any later point better than this one? The first of which
that is not shown is where the curve stops. Because the order is fixed and the first that is not
rejected ends it, the chance of going on beyond a plateau is `LEVEL` in all, whatever the number of
points (DECISIONS.md, "The curve", has what was simulated).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.1
"""More than the 0.05 of a difference: to stop too early and to stop too late are equally bad."""
LEAST_LATER = 2
"""So many later points have to be no better: one that is not better may be chance."""
_DRAWS = 10_000  # the standard error of a p-value of 0.1 is 0.003
_SEED = 0  # fixed: a curve has the same answer however often it is looked at


@dataclass(frozen=True, slots=True)
class Plateau:
    """`p_values[i]`: that no later point is better than point i; as far as was tested.

    `place` is the point at which the curve stops rising, `None` where that is not shown: it rises
    up to the last points, or there are too few.
    """

    place: int | None
    p_values: tuple[float, ...]


def find_plateau(right: NDArray[np.float64]) -> Plateau:
    """`right` (points, queries) is 1 for a right verdict and 0 for a wrong one, of the same queries
    at every point, in the order of the curve."""
    p_values: list[float] = []
    for place in range(len(right) - 1):
        p_values.append(_any_better(right[place + 1 :] - right[place]))
        if p_values[-1] >= LEVEL:
            is_shown = len(right) - 1 - place >= LEAST_LATER
            return Plateau(place if is_shown else None, tuple(p_values))
    return Plateau(None, tuple(p_values))


def _any_better(differences: NDArray[np.float64]) -> float:
    """The p-value that none of several points is better than one, of the differences (points,
    queries) of each from it.

    McNemar's statistic of each, one-sided and with Edwards' (1948) correction for continuity, which
    is close to the exact test also for few queries. The largest of them counts, in the joint normal
    distribution that the differences have if there is none: they are alike, as all are from the
    same point, and Bonferroni's correction would not know that.
    """
    changed = (differences**2).sum(axis=1)
    known = differences[changed > 0]
    if not len(known):  # all verdicts are equal
        return 1.0
    spread = np.sqrt(changed[changed > 0])
    largest = ((known.sum(axis=1) - 1) / spread).max()
    drawn = _normal(known @ known.T / np.outer(spread, spread))
    return float((1 + (drawn.max(axis=1) >= largest).sum()) / (1 + _DRAWS))


def _normal(correlations: NDArray[np.float64]) -> NDArray[np.float64]:
    """Draws (d, n) from the normal distribution with these correlations (n, n)."""
    values, vectors = np.linalg.eigh(correlations)
    # Of points with the same verdicts an eigenvalue is 0, and may come out just below it.
    roots = vectors * np.sqrt(np.clip(values, 0, None))
    drawn: NDArray[np.float64] = _draws(len(values)) @ roots.T
    return drawn


@cache
def _draws(count: int) -> NDArray[np.float64]:
    return np.random.default_rng(_SEED).standard_normal((_DRAWS, count))


def common(sides: Sequence[Mapping[int, float]]) -> NDArray[np.float64]:
    """(points, queries) of the queries that have a verdict at every point."""
    queries = sorted(set.intersection(*map(set, sides)))
    return np.array([[side[query] for query in queries] for side in sides], dtype=np.float64)
