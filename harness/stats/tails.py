"""The quantiles of times that matter under load, each with its interval."""

from __future__ import annotations

from dataclasses import replace

from harness.record import Measured
from harness.stats.significance import Times, measured
from harness.summary import Tail


def tail(times: Times) -> Tail | None:
    """Of the times of all replies; `None` without any."""
    if not times.blocks:
        return None

    def at(quantile: float) -> Measured:
        found = measured(replace(times, quantile=quantile))
        assert found is not None  # there are blocks
        return found

    return Tail(p50=at(0.5), p95=at(0.95), p99=at(0.99))
