"""Figures of a run by name, and how two of them differ: records that everyone uses."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from harness.summary import Estimate, Record, RunSummary


class Verdict(StrEnum):
    """What the evidence allows to say of the other side."""

    BETTER = "better"
    WORSE = "worse"
    NO_DIFFERENCE_SHOWN = "no difference shown"
    TOO_FEW = "too few samples"


@dataclass(frozen=True, slots=True)
class Metric:
    """A figure of a run on a backend. `is_share`: between 0 and 1, compared by difference; others
    are compared by ratio."""

    name: str
    unit: str
    more_is_better: bool
    is_share: bool = False


METRICS = {
    metric.name: metric
    for metric in (
        Metric("accuracy", "share of queries", more_is_better=True, is_share=True),
        Metric("parse_rate", "share of replies", more_is_better=True, is_share=True),
        Metric("prefill_tokens_per_second", "tokens/s", more_is_better=True),
        Metric("decode_tokens_per_second", "tokens/s", more_is_better=True),
        Metric("time_to_first_token_ms", "ms", more_is_better=False),
        Metric("peak_rss_mib", "MiB", more_is_better=False),
        Metric("examples_per_voter", "examples", more_is_better=True),
        Metric("load_seconds", "s", more_is_better=False),
    )
}


def metric_of(run: RunSummary, name: str) -> float | None:
    """The figure of this name, as the table shows it; null where it does not apply."""
    return metrics_of(run)[name]


def metrics_of(run: RunSummary) -> dict[str, float | None]:
    """Every metric of `METRICS`, by name."""
    speed, fit = run.speed, run.context_fit
    first_token = speed.time_to_first_token_ms
    vote: Estimate | None = getattr(run.accuracy, run.accuracy.headline)
    return {
        "accuracy": vote.value if vote else None,
        "parse_rate": run.parse.lenient.value if run.parse.lenient else None,
        "prefill_tokens_per_second": speed.prefill_tokens_per_second,
        "decode_tokens_per_second": speed.decode_tokens_per_second,
        "time_to_first_token_ms": first_token.p50 if first_token else None,
        "peak_rss_mib": run.memory.peak_rss_mib,
        "examples_per_voter": sum(fit.examples_per_voter) / len(fit.examples_per_voter),
        "load_seconds": speed.load_seconds,
    }


class Span(Record):
    """A 95 % interval."""

    low: float
    high: float


class Difference(Record):
    """One metric, first and other.

    `change` is other - first for a share, other / first for anything else; its interval is null
    where there are too few samples for one. `test` names where `p_value` comes from; `p_adjusted`
    is Holm's over all comparisons of this metric with the same first. `samples`: how many queries,
    or blocks of batches, each side gave.
    """

    metric: str
    kind: Literal["difference", "ratio"]
    paired: bool
    first: float
    other: float
    change: float
    interval: Span | None
    test: str
    p_value: float | None
    p_adjusted: float | None
    samples: tuple[int, int]
    verdict: Verdict
