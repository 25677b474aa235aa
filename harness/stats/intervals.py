"""Intervals: for a share of independent cases, and for cells that share their queries."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from harness.record import Estimate

_RESAMPLES = 5000
_RESAMPLES_AT_ONCE = 500  # bounds the memory: this many rows of Q numbers, not all 5000


def wilson(successes: int, n: int) -> Estimate:
    """The share of successes among `n` >= 1 independent cases, with Wilson's 95 % interval.

    Wilson, E. B. (1927), JASA 22, 209-212. Raises `ValueError` for a share of nothing.
    """
    from scipy.stats import binomtest

    interval = binomtest(successes, n).proportion_ci(confidence_level=0.95, method="wilson")
    return Estimate(value=successes / n, low=float(interval.low), high=float(interval.high))


def clustered_bootstrap(correct: NDArray[np.float64], seed: int) -> Estimate:
    """The mean over all cells, with a 95 % interval from resampling queries.

    `correct` is (V, Q): 1 for a right cell, 0 for a wrong one, NaN for a missing one; at least one
    is there. The cells of a query stand or fall together, so queries are drawn, not cells
    (Davison and Hinkley (1997), Bootstrap Methods, section 3.8). The interval is the percentile
    one: BCa needs a jackknife that is undefined where queries agree, and one method for all runs
    keeps them comparable.

    Where every query has the same share, resampling sees no spread. The interval is then Wilson's,
    with the queries as cases: five of five tells less than fifty of fifty.
    """
    from scipy.stats import bootstrap

    cells = np.isfinite(correct).sum(axis=0)
    right = np.nansum(correct, axis=0)[cells > 0]
    cells = cells[cells > 0]
    value = float(right.sum() / cells.sum())
    if np.ptp(right / cells) == 0:
        # Wilson's formula takes whole cases, so the interval is that of the nearest whole number.
        by_queries = wilson(round(value * len(cells)), len(cells))
        return by_queries.model_copy(update={"value": value})
    interval = bootstrap(
        (right, cells),
        _ratio,
        paired=True,  # draws queries: what is right, and out of how many, together
        vectorized=True,
        n_resamples=_RESAMPLES,
        batch=_RESAMPLES_AT_ONCE,
        method="percentile",
        rng=np.random.default_rng(seed),  # the run's seed: computed again, the interval is the same
    ).confidence_interval
    return Estimate(value=value, low=float(interval.low), high=float(interval.high))


def _ratio(right: NDArray[np.float64], cells: NDArray[np.int64], axis: int) -> NDArray[np.float64]:
    ratio: NDArray[np.float64] = right.sum(axis=axis) / cells.sum(axis=axis)
    return ratio
