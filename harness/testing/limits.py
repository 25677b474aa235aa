"""The gate of a test suite: is what was measured worse than what was saved, by more than it may be?

    limits, saved evidence, new evidence -> differences -> findings, and whether they pass

A regression is a change for the worse that is larger than its limit and that the evidence shows:
neither alone will do. Pure functions; the plugin asks and prints.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.errors import UsageError
from harness.metrics import METRICS, Difference, Verdict
from harness.stats.significance import Values, Work, ratio, share_difference
from harness.testing.evidence import Evidence, Sample

GATED = (
    "accuracy",
    "parse_rate",
    "prefill_tokens_per_second",
    "decode_tokens_per_second",
    "time_to_first_token_ms",
)
"""The metrics of which every query or round is a sample; the others have one value a worker."""

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
    """What one limit came to; `difference` is null where a side has no such figure."""

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
            and self.difference.verdict is Verdict.WORSE
        )


def parse_limits(text: str) -> dict[str, Limit]:
    """The limits in a text such as `accuracy:3pp,prefill_tokens_per_second:10%`, by metric; of
    several for one metric the last holds. Raises `UsageError`."""
    limits = (_limit(part.strip()) for part in text.split(","))
    return {limit.metric: limit for limit in limits}


def _limit(text: str) -> Limit:
    known = f"Metrics with a limit are: {', '.join(GATED)}."
    found = _LIMIT.fullmatch(text)
    if found is None:
        raise UsageError(f"{text!r} is no limit such as accuracy:3pp", remedy=known)
    metric, most, unit = found.groups()
    if metric in METRICS and metric not in GATED:
        raise UsageError(
            f"{metric} is one figure of a worker, not samples: there is nothing to test",
            remedy=f"Let the test itself assert on it. {known}",
        )
    if metric not in GATED:
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
    return 100 * (change if one.kind == "difference" else change - 1)


def _difference(metric: str, before: Evidence, now: Evidence) -> Difference | None:
    if METRICS[metric].is_share:
        paired = before.prompts.text_sha256 == now.prompts.text_sha256
        first, other = _shares(metric, before), _shares(metric, now)
        # a side that parses nothing has no shares at all: nothing to pair with
        both = len(first) and len(other)
        return share_difference(metric, first, other, paired) if both else None
    return ratio(metric, _work(metric, before.samples), _work(metric, now.samples))


def _shares(metric: str, one: Evidence) -> Values:
    """What each query came to; NaN where it came to nothing."""
    marks = {"1": 1.0, "0": 0.0}
    shares = [marks.get(mark) for mark in one.right] if metric == "accuracy" else one.readable
    return np.array(shares, dtype=np.float64)


def _work(metric: str, samples: Sequence[Sample]) -> Work:
    """A sample a round; rounds in which nothing of the kind was done have no part in it."""
    pairs = [pair for pair in (_pair(metric, sample) for sample in samples) if min(pair) > 0]
    amounts, took = np.array(pairs, dtype=np.float64).reshape(-1, 2).T
    return Work(amounts, took)


def _pair(metric: str, sample: Sample) -> tuple[float, float]:
    match metric:
        case "prefill_tokens_per_second":
            return sample.prefill_tokens, sample.prefill_seconds
        case "decode_tokens_per_second":
            return sample.decode_tokens, sample.decode_seconds
        case _:
            return sample.time_to_first_token_ms or 0.0, 1.0
