"""The figures of the table: each is a title and, for a run on a backend, a value and a detail."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from harness.report.text import NOTHING, interval, number, percent, span
from harness.summary import Controls, Estimate, RunSummary, headline

Cell: TypeAlias = tuple[str, ...]
"""The figure itself and what stands below or behind it."""

MOCK_LABEL = "MOCK"

_OWN_TOKENS: Cell = ("own",)

CONTROL_NAMES = {
    "same_numbers_logistic": "logistic regression, same numbers",
    "all_features_random_forest": "random forest, all features",
    "all_features_logistic": "logistic regression, all features",
    "majority_class": "the most frequent class",
}


@dataclass(frozen=True, slots=True)
class Figure:
    """`title` is the lines of a column's head, or together the head of a row.

    A column is at most so many `columns` of the terminal wide. A figure whose cells are all
    `unsaid` is left out.
    """

    title: tuple[str, ...]
    cell: Callable[[RunSummary], Cell]
    columns: int = 14
    unsaid: Cell | None = None


def figures_of(runs: Sequence[RunSummary]) -> list[Figure]:
    """Those that say something of these runs."""
    return [one for one in FIGURES if any(one.cell(run) != one.unsaid for run in runs)]


def controls_by_name(controls: Controls) -> dict[str, Estimate]:
    """Those that there are, under the names they are shown by."""
    every = {name: getattr(controls, field) for field, name in CONTROL_NAMES.items()}
    return {name: estimate for name, estimate in every.items() if estimate is not None}


def _engine(run: RunSummary) -> Cell:
    return run.engine_version, run.weights


def _prompt_tokens(run: RunSummary) -> Cell:
    tokens, where = run.tokens, run.tokens.own_difference
    if where is not None:
        place = f"voter {where.voter}", f"{where.role} {where.position}", f"token {where.token}"
        return "same as", f"{tokens.tokenized_by};", "own differ at", *place
    if tokens.tokenized_by != run.backend:
        return "same as", tokens.tokenized_by
    return _OWN_TOKENS if tokens.same_as_first else ("own vocabulary,", "same text")


def _context_fit(run: RunSummary) -> Cell:
    fit = run.context_fit
    return span(fit.examples_per_voter), f"({percent(fit.fill_ratio)})"


def _prefill(run: RunSummary) -> Cell:
    return (number(run.speed.prefill_tokens_per_second),)


def _decode(run: RunSummary) -> Cell:
    return (number(run.speed.decode_tokens_per_second),)


def _first_token(run: RunSummary) -> Cell:
    times = run.speed.time_to_first_token_ms
    return (number(times.p50), f"({number(times.p95)})") if times else (NOTHING,)


def _computed(run: RunSummary) -> Cell:
    speed = run.speed
    computed, unique, least = speed.computed_tokens, speed.unique_tokens, speed.least_tokens
    if computed is None or not unique or not least:
        return (NOTHING,)
    ratio = f"{computed:,}", f"/ {unique:,}", f"= {computed / unique:.2f}"
    block = speed.shared_block_tokens
    # what an engine that shares whole blocks only cannot avoid, beside what it does
    return ratio if block == 1 else (*ratio, f"(blocks of {block}: {computed / least:.2f})")


def _memory(run: RunSummary) -> Cell:
    rss, gpu = run.memory.peak_rss_mib, run.memory.peak_gpu_mib
    return (number(rss),) if gpu is None else (number(rss), f"GPU {number(gpu)}")


def _parsed(run: RunSummary) -> Cell:
    lenient, strict = run.parse.lenient, run.parse.strict
    if lenient is None or strict is None:
        return (NOTHING,)
    return percent(lenient.value), f"({percent(strict.value)})"


def _single(run: RunSummary) -> Cell:
    return _estimate(run.accuracy.single)


def _voted(run: RunSummary) -> Cell:
    return *_estimate(headline(run)), run.accuracy.headline


def _estimate(estimate: Estimate | None) -> Cell:
    return (NOTHING,) if estimate is None else (f"{estimate.value:.2f}", interval(estimate))


def _best_control(run: RunSummary) -> Cell:
    name, best = max(controls_by_name(run.controls).items(), key=lambda item: item[1].value)
    return f"{best.value:.2f}", name


FIGURES = (
    Figure(("engine", "and weights"), _engine, columns=16),
    Figure(("prompt", "tokens"), _prompt_tokens, columns=15, unsaid=_OWN_TOKENS),
    Figure(("shown", "examples", "(fill)"), _context_fit),
    Figure(("prefill", "tok/s"), _prefill),
    Figure(("decode", "tok/s"), _decode),
    Figure(("ms to", "first", "token", "(p95)"), _first_token),
    Figure(("tokens", "computed", "/ unique"), _computed),
    Figure(("peak", "memory", "MiB"), _memory),
    Figure(("parsed", "(strict)"), _parsed),
    Figure(("accuracy", "one voter"), _single),
    Figure(("accuracy", "voted"), _voted),
    Figure(("best", "control", "(no LLM)"), _best_control),
)
