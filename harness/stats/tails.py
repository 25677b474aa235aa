"""The quantiles of times that matter under load, each with its interval."""

from __future__ import annotations

from dataclasses import replace

from harness.record import Measured
from harness.stats.significance import Times, measured
from harness.summary import Tail

LEAST_BEYOND = 10
"""Times that have to lie beyond a quantile for its interval to be shown: of p95 that takes 200
replies, of p99 1,000. The bootstrap knows no time above the longest. Of 100 independent times, its
interval of p99 had the true value in it in 71 of 100 cases, and not in 95; of 1,000 in 94."""


def tail(times: Times) -> Tail | None:
    """Of the times of all replies; `None` without any."""
    if not times.blocks:
        return None
    count = sum(map(len, times.blocks))

    def at(quantile: float) -> Measured:
        wanted = replace(times, quantile=quantile)
        beyond = round(count * (1 - quantile), 6)  # 10, and not 9.999999999999991
        found = measured(wanted) if beyond >= LEAST_BEYOND else None
        return found or Measured(value=wanted.figure)

    return Tail(p50=at(0.5), p95=at(0.95), p99=at(0.99))
