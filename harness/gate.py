"""The gate of a test suite: is what was measured worse than what was saved, by more than it may be?

    limits, saved evidence, new evidence -> differences -> what is said, and whether it passes

A regression is a change for the worse that is larger than its limit and that the evidence shows:
neither alone will do. Pure functions; the plugin asks and prints.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from textwrap import wrap
from typing import Any

import numpy as np

from harness.differences import METRICS, Difference, Verdict
from harness.errors import UsageError
from harness.evidence import Evidence, Sample
from harness.report.text import number
from harness.scoring.differences import (
    LEAST_SAMPLES,
    Values,
    Work,
    ratio,
    share_difference,
)

GATED = (
    "accuracy",
    "parse_rate",
    "prefill_tokens_per_second",
    "decode_tokens_per_second",
    "time_to_first_token_ms",
)
"""The metrics of which every query or round is a sample; the others have one value a worker."""

_WIDTH = 76  # of a line, which stands a little to the right
_LIMIT = re.compile(r"(\w+):(\d+(?:\.\d+)?)(pp|%)")
_CONDITIONS = ("model", "engine_version", "weights", "model_sha256", "device", "threads")
_OF_MACHINE = ("system", "machine", "python_version")  # of pytest-benchmark's `machine_info`,
_OF_CPU = ("brand_raw", "count")  # what speeds depend on and does not change by itself


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
    change = _in_unit(one, one.change)
    return -change if METRICS[one.metric].more_is_better else change


def _in_unit(one: Difference, change: float) -> float:
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


def describe(findings: Sequence[Finding]) -> Iterator[str]:
    """What is said of one test against one saved file, the worst first."""
    for finding in findings:
        if finding.is_regression and finding.difference:
            yield from _told("REGRESSED", finding.limit, finding.difference)
    for finding in findings:
        if finding.difference is None:
            yield f"not judged: {finding.limit.metric}, which one side does not have"
        elif finding.difference.verdict is Verdict.TOO_FEW:
            yield _too_few(finding.difference)
        elif finding.is_beyond and not finding.is_regression:
            yield from _told("NOT SHOWN to be worse:", finding.limit, finding.difference)
            yield f"  it may be chance; more {_cases(finding.difference)} would tell"
    if within := [finding.limit.metric for finding in findings if _is_within(finding)]:
        yield from wrap(f"within limits: {', '.join(within)}", _WIDTH, subsequent_indent="  ")


def _is_within(finding: Finding) -> bool:
    one = finding.difference
    return one is not None and one.verdict is not Verdict.TOO_FEW and not finding.is_beyond


def _told(what: str, limit: Limit, one: Difference) -> Iterator[str]:
    """Both values, the change, the limit; the interval and the p-value."""
    change = f"{_in_unit(one, one.change):+.1f}{limit.unit}"
    yield (
        f"{what} {one.metric}: {_figure(one, one.first)} -> {_figure(one, one.other)}, "
        f"{change} (limit {limit.most:g}{limit.unit})"
    )
    if one.interval:
        low, high = (_in_unit(one, end) for end in (one.interval.low, one.interval.high))
        yield (
            f"  95 % interval {low:+.1f}{limit.unit} to {high:+.1f}{limit.unit}; "
            f"p = {one.p_adjusted:.2g} ({one.test})"
        )


def _cases(one: Difference) -> str:
    return "queries" if METRICS[one.metric].is_share else "rounds"


def _figure(one: Difference, value: float) -> str:
    return f"{value:.3f}" if METRICS[one.metric].is_share else number(value)


def _too_few(one: Difference) -> str:
    before, now = one.samples
    return (
        f"TOO FEW ROUNDS to judge {one.metric}: {before} before, {now} now; "
        f"{LEAST_SAMPLES} are needed"
    )


def conditions(before: Evidence, now: Evidence) -> Iterator[str]:
    """What else differs, so that a change may come from it."""
    if before.prompts.text_sha256 != now.prompts.text_sha256:
        yield "PROMPTS DIFFER: not asked the same, so shares are compared unpaired"
    for name in _CONDITIONS:
        one, other = getattr(before, name), getattr(now, name)
        if one != other:
            yield f"warning: {name.replace('_', ' ')} differs: {one} -> {other}"


def machine_differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """The same of two `machine_info` of pytest-benchmark."""
    ones, others = _machine(before), _machine(now)
    for name, one in ones.items():
        if one != others[name]:
            yield f"warning: {name} differs: {one} -> {others[name]}"


def _machine(info: Mapping[str, Any]) -> dict[str, Any]:
    cpu = info.get("cpu", {})
    whole = {name.replace("_", " "): info.get(name) for name in _OF_MACHINE}
    return whole | {f"cpu {name.removesuffix('_raw')}": cpu.get(name) for name in _OF_CPU}
