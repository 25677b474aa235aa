"""The figures of the table: each is a title and, for an entry of a run, a value and a detail.

A metric of `harness.comparison.metrics` that is for the table appears in it without being named
here. Named here are those with a look of their own, what is no metric, and the order.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from harness.comparison.metrics import METRICS
from harness.metrics import Metric, Outcome
from harness.record import Estimate
from harness.report.text import NOTHING, interval, number, p_value, percent, span
from harness.summary import Baseline, RunSummary, headline

Cell: TypeAlias = tuple[str, ...]
"""The figure itself and what stands below or behind it."""

MOCK_LABEL = "MOCK"
VOTES = ("majority", "soft", "calibrated")

_UNKNOWN: Cell = (NOTHING,)
_OWN_TOKENS: Cell = ("own",)
_TITLE_COLUMNS = 12


@dataclass(frozen=True, slots=True)
class Row:
    """An entry of a run, with the baselines of that run.

    `note` stands below the entry's name; it may be empty.
    """

    run: RunSummary
    baselines: Sequence[Baseline] = ()
    note: str = ""


@dataclass(frozen=True, slots=True)
class Figure:
    """`title` is the lines of a column's head, or together the head of a row.

    A column is at most so many `columns` of the terminal wide. A figure whose cells are all
    `unsaid` is left out.
    """

    title: tuple[str, ...]
    cell: Callable[[Row], Cell]
    columns: int = 14
    unsaid: Cell | None = None


def figures_of(rows: Sequence[Row]) -> list[Figure]:
    """Those that say something of these rows, in the order of the table."""
    others = [name for name, metric in METRICS.items() if metric.in_table and name not in _ORDER]
    *first, last = _ORDER
    names = [*first, *others, last]
    every = [_LOOKS[name] if name in _LOOKS else _plain(METRICS[name]) for name in names]
    return [one for one in every if any(one.cell(row) != one.unsaid for row in rows)]


def is_in_table(figure: str) -> bool:
    """Whether a figure of this name has a place in the tables of a run."""
    in_table = figure in METRICS and METRICS[figure].in_table
    return in_table or figure in _LOOKS or figure in VOTES


def title_of(figure: str) -> str:
    """What the table calls a figure of this name, in one line."""
    if figure in _LOOKS:
        return " ".join(_LOOKS[figure].title)
    if figure in VOTES:
        return f"{figure} vote"
    return METRICS[figure].title if figure in METRICS else figure.replace("_", " ")


def _plain(metric: Metric) -> Figure:
    """A metric without a look of its own: its value, a share with its interval."""

    def cell(row: Row) -> Cell:
        value = metric.value(row.run)
        if value is None or isinstance(value, Estimate):
            return _estimate(value)
        return (f"{value:.2f}" if metric.is_share else number(value),)

    return Figure(tuple(textwrap.wrap(metric.title, _TITLE_COLUMNS)), cell)


def _engine(row: Row) -> Cell:
    """The backend too, where the entry has another name."""
    run = row.run
    backend = () if run.entry == run.backend else (run.backend,)
    return *backend, run.engine_version or NOTHING, *filter(None, [run.weights])


def _prompt_tokens(row: Row) -> Cell:
    tokens = row.run.tokens
    if tokens is None:
        return _UNKNOWN
    where = tokens.own_difference
    if where is not None:
        place = f"voter {where.voter}", f"{where.role} {where.position}", f"token {where.token}"
        return "same as", f"{tokens.tokenized_by};", "own differ at", *place
    if tokens.tokenized_by != row.run.entry:
        return "same as", tokens.tokenized_by
    return _OWN_TOKENS if tokens.same_as_first else ("own vocabulary,", "same text")


def _context_fit(row: Row) -> Cell:
    fit = row.run.context_fit
    return span(fit.examples_per_voter), f"({percent(fit.fill_ratio)})"


def _first_token(row: Row) -> Cell:
    times = row.run.speed.time_to_first_token_ms
    return (number(times.p50), f"({number(times.p95)})") if times else _UNKNOWN


def _computed(row: Row) -> Cell:
    speed = row.run.speed
    computed, unique, least = speed.computed_tokens, speed.unique_tokens, speed.least_tokens
    if computed is None or not unique or not least:
        return _UNKNOWN
    ratio = f"{computed:,}", f"/ {unique:,}", f"= {computed / unique:.2f}"
    block = speed.shared_block_tokens
    # what an engine that shares whole blocks only cannot avoid, beside what it does
    return ratio if block == 1 else (*ratio, f"(blocks of {block}: {computed / least:.2f})")


def _memory(row: Row) -> Cell:
    rss, gpu = row.run.memory.peak_rss_mib, row.run.memory.peak_gpu_mib
    return (number(rss),) if gpu is None else (number(rss), f"GPU {number(gpu)}")


def _parsed(row: Row) -> Cell:
    lenient, strict = row.run.parse.lenient, row.run.parse.strict
    if lenient is None or strict is None:
        return _UNKNOWN
    return percent(lenient.value), f"({percent(strict.value)})"


def _single(row: Row) -> Cell:
    return _estimate(row.run.accuracy.single)


def _voted(row: Row) -> Cell:
    return *_estimate(headline(row.run)), row.run.accuracy.headline


def _estimate(estimate: Estimate | None) -> Cell:
    return _UNKNOWN if estimate is None else (f"{estimate.value:.2f}", interval(estimate))


def _best_baseline(row: Row) -> Cell:
    """With the p-value of the entry's vote against it, and which way a difference goes."""
    if not row.baselines:
        return _UNKNOWN
    # Not the one with the smallest p-value: the model has to beat the most accurate of them.
    best = max(row.baselines, key=lambda one: one.estimate.value)
    tests = [one.difference for one in row.run.against_baselines if one.baseline == best.name]
    shown = {Outcome.BETTER: "model better, ", Outcome.WORSE: "model worse, "}
    said = [
        f"({shown.get(one.outcome, '')}{p_value(one.p_adjusted)})"
        for one in tests
        if one.p_adjusted is not None
    ]
    return f"{best.estimate.value:.2f}", best.name, *said


_LOOKS: Mapping[str, Figure] = {
    "engine": Figure(("engine", "and weights"), _engine, columns=16),
    "prompt_tokens": Figure(("prompt", "tokens"), _prompt_tokens, columns=15, unsaid=_OWN_TOKENS),
    "examples_per_voter": Figure(("shown", "examples", "(fill)"), _context_fit),
    "time_to_first_token_ms": Figure(("ms to", "first", "token", "(p95)"), _first_token),
    "computed_tokens": Figure(("prefill", "tokens /", "minimum"), _computed),
    "peak_rss_mib": Figure(("peak", "memory", "MiB"), _memory),
    "parse_rate": Figure(("parsed", "(strict)"), _parsed),
    "accuracy_single": Figure(("accuracy", "one voter"), _single),
    "accuracy": Figure(("accuracy", "voted"), _voted),
    "best_baseline": Figure(("best", "baseline", "(no LLM)"), _best_baseline, unsaid=_UNKNOWN),
}
_ORDER = (
    "engine",
    "prompt_tokens",
    "examples_per_voter",
    "prefill_tokens_per_second",
    "decode_tokens_per_second",
    "time_to_first_token_ms",
    "computed_tokens",
    "peak_rss_mib",
    "parse_rate",
    "accuracy_single",
    "accuracy",
    "best_baseline",
)
"""Any other metric that is for the table stands before the last."""
