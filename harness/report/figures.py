"""The figures of the table: each is a title and, for a run on a backend, a value and a detail."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from harness.report.text import NOTHING, interval, number, percent, span
from harness.summary import CaveatKind, Controls, Estimate, RunSummary

Cell: TypeAlias = tuple[str, str]
"""The figure itself and what stands below or behind it, which may be empty."""

MOCK_LABEL = "MOCK: made up"

CONTROL_NAMES = {
    "same_numbers_logistic": "logistic regression, same numbers",
    "all_features_random_forest": "random forest, all features",
    "all_features_logistic": "logistic regression, all features",
    "majority_class": "the most frequent class",
}


@dataclass(frozen=True, slots=True)
class Figure:
    """`title` and `unit` are the two lines of a column's head, or one of a row's."""

    title: str
    unit: str
    cell: Callable[[RunSummary], Cell]


def is_mock(run: RunSummary) -> bool:
    return any(caveat.kind is CaveatKind.MOCK for caveat in run.caveats)


def headline(run: RunSummary) -> Estimate | None:
    """The vote that the run's accuracy is told by."""
    return {
        "majority": run.accuracy.majority,
        "soft": run.accuracy.soft,
        "calibrated": run.accuracy.calibrated,
    }[run.accuracy.headline]


def controls_by_name(controls: Controls) -> dict[str, Estimate]:
    """Those that there are, under the names they are shown by."""
    every = {name: getattr(controls, field) for field, name in CONTROL_NAMES.items()}
    return {name: estimate for name, estimate in every.items() if estimate is not None}


def _engine(run: RunSummary) -> Cell:
    return run.engine_version, run.weights


def _context_fit(run: RunSummary) -> Cell:
    fit = run.context_fit
    return span(fit.examples_per_voter), f"{percent(fit.fill_ratio)} full"


def _prefill(run: RunSummary) -> Cell:
    return number(run.speed.prefill_tokens_per_second), ""


def _decode(run: RunSummary) -> Cell:
    return number(run.speed.decode_tokens_per_second), ""


def _first_token(run: RunSummary) -> Cell:
    times = run.speed.time_to_first_token_ms
    return (number(times.p50), f"({number(times.p95)})") if times else (NOTHING, "")


def _computed(run: RunSummary) -> Cell:
    computed, unique = run.speed.computed_tokens, run.speed.unique_tokens
    ratio = f"= {computed / unique:.2f}" if unique else ""
    return f"{computed:,} / {unique:,}", ratio


def _memory(run: RunSummary) -> Cell:
    gpu = run.memory.peak_gpu_mib
    return number(run.memory.peak_rss_mib), "" if gpu is None else f"GPU {number(gpu)}"


def _parsed(run: RunSummary) -> Cell:
    lenient, strict = run.parse.lenient, run.parse.strict
    if lenient is None or strict is None:
        return NOTHING, ""
    return percent(lenient.value), f"({percent(strict.value)})"


def _estimate(estimate: Estimate | None, name: str = "") -> Cell:
    if estimate is None:
        return NOTHING, ""
    return f"{name} {estimate.value:.2f}".strip(), interval(estimate)


def _single(run: RunSummary) -> Cell:
    return _estimate(run.accuracy.single)


def _voted(run: RunSummary) -> Cell:
    return _estimate(headline(run), run.accuracy.headline)


def _best_control(run: RunSummary) -> Cell:
    name, best = max(controls_by_name(run.controls).items(), key=lambda item: item[1].value)
    return f"{best.value:.2f}", name


FIGURES = (
    Figure("engine", "and weights", _engine),
    Figure("examples", "per voter", _context_fit),
    Figure("prefill", "tokens/s", _prefill),
    Figure("decode", "tokens/s", _decode),
    Figure("first token", "ms, p50 (p95)", _first_token),
    Figure("tokens", "computed / unique", _computed),
    Figure("memory", "peak MiB", _memory),
    Figure("parsed", "(strict)", _parsed),
    Figure("accuracy", "one voter", _single),
    Figure("accuracy", "voted", _voted),
    Figure("best control", "no LLM", _best_control),
)
