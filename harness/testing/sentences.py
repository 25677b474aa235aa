"""What the gate says of its findings, and of what else differs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from textwrap import wrap
from typing import Any

from harness.comparison.metrics import METRICS
from harness.metrics import Difference, Outcome
from harness.report.text import number
from harness.stats.significance import LEAST_SAMPLES
from harness.testing.evidence import Evidence
from harness.testing.limits import Finding, Limit, in_unit

_WIDTH = 76  # of a line, which stands a little to the right
_CONDITIONS = ("model", "engine_version", "weights", "model_sha256", "device", "threads")
_OF_MACHINE = ("system", "machine", "python_version")  # of pytest-benchmark's `machine_info`,
_OF_CPU = ("brand_raw", "count")  # what speeds depend on and does not change by itself


def describe(findings: Sequence[Finding]) -> Iterator[str]:
    """What is said of one test against one saved file, the worst first."""
    for finding in findings:
        if finding.is_regression and finding.difference:
            yield from _stated("REGRESSED", finding.limit, finding.difference)
    for finding in findings:
        if finding.difference is None:
            yield f"not judged: {finding.limit.metric}, which one side does not have"
        elif finding.difference.outcome is Outcome.TOO_FEW:
            yield from _too_few(finding.difference)
        elif finding.is_beyond and not finding.is_regression:
            yield from _stated("NOT SHOWN to be worse:", finding.limit, finding.difference)
            yield f"  it may be chance; more {_cases(finding.difference)} would tell"
    if within := [finding.limit.metric for finding in findings if _is_within(finding)]:
        yield from wrap(f"within limits: {', '.join(within)}", _WIDTH, subsequent_indent="  ")


def _is_within(finding: Finding) -> bool:
    one = finding.difference
    return one is not None and one.outcome is not Outcome.TOO_FEW and not finding.is_beyond


def _stated(what: str, limit: Limit, one: Difference) -> Iterator[str]:
    """Both values, the change, the limit; the interval and the p-value."""
    change = f"{in_unit(one, one.change):+.1f}{limit.unit}"
    yield (
        f"{what} {one.metric}: {_figure(one, one.first)} -> {_figure(one, one.other)}, "
        f"{change} (limit {limit.most:g}{limit.unit})"
    )
    if one.interval:
        low, high = (in_unit(one, end) for end in (one.interval.low, one.interval.high))
        yield (
            f"  95 % interval {low:+.1f}{limit.unit} to {high:+.1f}{limit.unit}; "
            f"p = {one.p_adjusted:.2g} ({one.test})"
        )


def _cases(one: Difference) -> str:
    return "queries" if METRICS[one.metric].is_share else "rounds"


def _figure(one: Difference, value: float) -> str:
    return f"{value:.3f}" if METRICS[one.metric].is_share else number(value)


def _too_few(one: Difference) -> Iterator[str]:
    before, now = one.samples
    per_session = METRICS[one.metric].kind == "per_session"
    yield (
        f"TOO FEW {'WORKERS' if per_session else 'ROUNDS'} to judge {one.metric}: "
        f"{before} before, {now} now; {LEAST_SAMPLES} are needed"
    )
    if per_session:
        yield "  fresh_engine=True opens one for each round"


def conditions(before: Evidence, now: Evidence) -> Iterator[str]:
    """What else differs, so that a change may come from it."""
    if before.prompts.text_sha256 != now.prompts.text_sha256:
        yield "PROMPTS DIFFER: not given the same, so shares are compared unpaired"
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
