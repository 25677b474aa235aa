"""The gate of a test suite: is what was measured worse than what was saved, by more than it may be?

    limits, saved evidence, new evidence -> differences -> findings, and whether they pass

A regression is a change for the worse that is larger than its limit and that the evidence shows:
neither alone will do. Of what is counted, such as the examples that fit, any change is shown. Pure
functions; the plugin measures and prints.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.comparison.metrics import METRICS
from harness.errors import UsageError
from harness.metrics import Difference, Metric, Outcome
from harness.stats.significance import Samples, Times, Work, difference
from harness.testing.evidence import Evidence

_LIMIT = re.compile(r"(\w+):(\d+(?:\.\d+)?)(pp|%)")


@dataclass(frozen=True, slots=True)
class Limit:
    """How much worse a metric may get: percentage points of a share, per cent of anything else."""

    metric: str
    most: float

    @property
    def unit(self) -> str:
        return "pp" if METRICS[self.metric].is_share else "%"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one limit came to; `difference` is `None` where a side has no such figure."""

    limit: Limit
    difference: Difference | None

    @property
    def is_beyond(self) -> bool:
        """Whether it is worse by more than the limit, shown or not."""
        return self.difference is not None and worsening(self.difference) > self.limit.most

    @property
    def is_regression(self) -> bool:
        return (
            self.is_beyond
            and self.difference is not None
            and self.difference.outcome is Outcome.WORSE
        )


def parse_limits(text: str) -> dict[str, Limit]:
    """The limits in a text such as `accuracy:3pp,prefill_tokens_per_second:10%`, by metric; of
    several for one metric the last holds. Raises `UsageError`."""
    limits = (_limit(part.strip()) for part in text.split(","))
    return {limit.metric: limit for limit in limits}


def _limit(text: str) -> Limit:
    known = f"Metrics with a limit are: {', '.join(METRICS)}."
    found = _LIMIT.fullmatch(text)
    if found is None:
        raise UsageError(f"{text!r} is no limit such as accuracy:3pp", remedy=known)
    metric, most, unit = found.groups()
    if metric not in METRICS:
        raise UsageError(f"there is no metric {metric}", remedy=known)
    limit = Limit(metric, float(most))
    if unit != limit.unit:
        raise UsageError(
            f"{text}: a share is limited in pp (percentage points), anything else in %",
            remedy=f"Write {metric}:{most}{limit.unit}.",
        )
    return limit


def judge(before: Evidence, now: Evidence, limits: Sequence[Limit]) -> list[Finding]:
    """What each limit comes to."""
    return [Finding(limit, _difference(limit.metric, before, now)) for limit in limits]


def worsening(one: Difference) -> float:
    """By how much the other side is worse, in the unit of a limit; below 0 where it is better."""
    change = in_unit(one, one.change)
    return -change if METRICS[one.metric].more_is_better else change


def in_unit(one: Difference, change: float) -> float:
    # A ratio of 0.9 is a change of -10 %.
    return 100 * (change if one.kind == "difference" else change - 1)


def _difference(name: str, before: Evidence, now: Evidence) -> Difference | None:
    metric = METRICS[name]
    first, other = _samples(metric, before), _samples(metric, now)
    if first is None or other is None:
        return None
    # The saved file has no hash of the data. Equal prompts are equal queries.
    paired = metric.is_share and before.prompts.text_sha256 == now.prompts.text_sha256
    return difference(metric, first, other, paired)


def _samples(metric: Metric, one: Evidence) -> Samples | None:
    """What the rounds gave of a metric; `None` where they gave nothing.

    Of a rate and of a time each round is a sample, if anything of the kind was done in it. Of what
    a worker has one figure of, such as its memory, each worker is one, with its last round that has
    the figure.
    """
    if metric.is_share:  # a side that parses nothing has no shares at all: nothing to pair with
        shares = one.shares.get(metric.name)
        return np.array(shares, dtype=np.float64) if shares else None
    if metric.kind == "rate":
        pairs = [sample.work.get(metric.name, (0, 0)) for sample in one.samples]
        done = np.array([pair for pair in pairs if min(pair) > 0], dtype=np.float64)
        return Work(*done.T) if len(done) else None
    known = [
        (sample.session, value)
        for sample in one.samples
        if (value := sample.values.get(metric.name)) is not None
    ]
    if not known:
        return None
    match metric.kind:
        case "time":
            # The median of a round stands for the block, as single times are not saved.
            return Times(tuple(np.array([value]) for _, value in known))
        case "per_session":
            # One figure of a worker never counts as several samples: of its rounds, the last one
            # stays.
            return np.array(list(dict(known).values()), dtype=np.float64)
        case _:
            return known[-1][1]
