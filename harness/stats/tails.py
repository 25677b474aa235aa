"""The quantiles of times that matter under load, each with its interval."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy import stats

from harness.record import Measured
from harness.stats.significance import ALPHA, LEAST_SAMPLES, Times, Values, variance_inflation
from harness.summary import Tail

_QUANTILES = (0.5, 0.95, 0.99)


def tail(times: Times) -> Tail | None:
    """Of the times of all replies; `None` without any."""
    if not times.blocks:
        return None
    p50, p95, p99 = _measured(times)
    return Tail(p50=p50, p95=p95, p99=p99)


def _measured(times: Times) -> Iterator[Measured]:
    """Each quantile with two of the times as its ends, by their places in order of size.

    How many of n independent times lie below a quantile is binomial, which gives both places,
    whatever the times are (Woodruff 1952, J. Am. Stat. Assoc. 47, 635-646). Where the upper one is
    beyond the last time, as it is for p99 of fewer than 367, nothing shows how far up the quantile
    may be.
    """
    every = np.sort(np.concatenate(times.blocks))
    inflation, least = 1.0, 0.0
    for quantile in _QUANTILES:
        value = float(np.quantile(every, quantile))
        # A quantile further out is never known better.
        inflation = max(inflation, _inflation(times, value, quantile))
        count = max(int(len(every) / inflation), 1)
        of_count = stats.binom(count, quantile)
        below, above = (float(of_count.ppf(end)) for end in (ALPHA / 2, 1 - ALPHA / 2))
        if len(times.blocks) < LEAST_SAMPLES or below < 1:
            yield Measured(value=value)
            continue
        share = len(every) / count
        # Nor is it lower than one further in.
        least = max(least, min(float(every[int((below - 1) * share)]), value))
        high = every[int(np.ceil((above + 1) * share)) - 1] if above < count else None
        yield Measured(value=value, low=least, high=None if high is None else float(high))


def _inflation(times: Times, value: float, quantile: float) -> float:
    """How many times more replies it takes than if they were independent: those of one block are
    slow together, and neighbouring blocks are alike."""
    sizes = np.array([len(block) for block in times.blocks], dtype=np.float64)
    slow = np.array([(block > value).sum() for block in times.blocks], dtype=np.float64)
    expected: Values = sizes * slow.sum() / sizes.sum()
    of_one = float(sizes.sum()) * quantile * (1 - quantile)
    of_blocks = float(((slow - expected) ** 2).sum()) / of_one
    return max(of_blocks, 1.0) * variance_inflation(times.levels)
