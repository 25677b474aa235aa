"""The figures of the table: each is a title and, for an entry of a run, a value and a detail.

A metric of `harness.comparison.metrics` that is for the table appears in it without being named
here. Named here are those with a look of their own, what is no metric, and the order.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

from harness.comparison.metrics import METRICS
from harness.comparison.samples import ACCURACY
from harness.contract import SessionInfo
from harness.metrics import Difference, Metric, Outcome
from harness.record import Estimate
from harness.report.text import NOTHING, interval, number, p_value, percent, span
from harness.report.words import not_parsed
from harness.summary import Baseline, RunSummary, headline

Cell: TypeAlias = tuple[str, ...]
"""The figure itself and what stands below or behind it."""

MOCK_LABEL = "MOCK"
VOTES = ("majority", "soft", "calibrated")

_QUERIES = "queries"
_UNKNOWN: Cell = (NOTHING,)
_OWN_TOKENS: Cell = ("own",)
_OF_CLIENT: Cell = ("client's",)
_TITLE_COLUMNS = 12


@dataclass(frozen=True, slots=True)
class Row:
    """An entry of a run, with the baselines of that run.

    `note` stands below the entry's name; it may be empty. `info` is of its last session. `ahead`
    names the metrics in which it is better than every other row.
    """

    run: RunSummary
    baselines: Sequence[Baseline] = ()
    note: str = ""
    info: SessionInfo | None = None
    ahead: Collection[str] = ()


@dataclass(frozen=True, slots=True)
class BaselineRow:
    """A baseline among entries: of their figures it has the accuracy and the queries."""

    name: str
    baseline: Baseline
    note: str = ""
    ahead: Collection[str] = ()


@dataclass(frozen=True, slots=True)
class Figure:
    """`title` is the lines of a column's head, or together the head of a row.

    A column is at most so many `columns` of the terminal wide. A figure whose cells are all
    `unsaid` is left out, and one that is for `differing` values where all cells are the same.
    """

    name: str
    title: tuple[str, ...]
    cell: Callable[[Row], Cell]
    columns: int = 14
    unsaid: Cell | None = None
    differing: bool = False

    def of(self, row: Row | BaselineRow) -> Cell:
        if isinstance(row, Row):
            return self.cell(row)
        if self.name == ACCURACY:
            return _estimate(row.baseline.estimate)
        if self.name == _QUERIES:
            return (f"{len(row.baseline.predictions or ()):,}",)
        return _UNKNOWN

    def says_something(self, rows: Sequence[Row | BaselineRow]) -> bool:
        # A baseline says nothing of what only entries have.
        entries = [row for row in rows if isinstance(row, Row)]
        cells = list(map(self.of, rows if self.name in (ACCURACY, _QUERIES) else entries))
        if self.differing:
            return len(set(cells)) > 1
        return any(cell != self.unsaid for cell in cells)


def figures_of(rows: Sequence[Row | BaselineRow]) -> list[Figure]:
    """Those that say something of these rows, in the order of the table."""
    others = [name for name, metric in METRICS.items() if metric.in_table and name not in _ORDER]
    *first, last = _ORDER
    names = [*first, *others, last]
    every = [_LOOKS[name] if name in _LOOKS else _plain(METRICS[name]) for name in names]
    return [one for one in every if one.says_something(rows)]


def is_in_table(figure: str, runs: Sequence[RunSummary]) -> bool:
    """Whether a figure of this name has a place in the tables of these runs."""
    if figure in _LOOKS and _LOOKS[figure].unsaid == _UNKNOWN:  # no row where none has it
        return any(figure not in run.missing for run in runs)
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

    return Figure(metric.name, tuple(textwrap.wrap(metric.title, _TITLE_COLUMNS)), cell)


def _engine(row: Row) -> Cell:
    """The backend too, where the entry has another name."""
    run = row.run
    backend = () if run.entry == run.backend else (run.backend,)
    return *backend, run.engine_version or NOTHING, *filter(None, [run.weights])


def _device(row: Row) -> Cell:
    if row.info is None:
        return _UNKNOWN
    count = row.info.threads
    if not count:  # a server's are not known
        return (row.info.device,)
    return f"{row.info.device},", f"{count} {'thread' if count == 1 else 'threads'}"


def _queries(row: Row) -> Cell:
    return (f"{row.run.accuracy.answered:,}",)


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
    if times is None and row.run.load and row.run.load.request_time_to_first_token_ms:
        return _OF_CLIENT
    return (number(times.p50), f"({number(times.p95)})") if times else _UNKNOWN


def _request_first_token(row: Row, is_cold: bool = False) -> Cell:
    load = row.run.load
    times = load.request_time_to_first_token_ms if load and load.is_cold == is_cold else None
    return (number(times.p50.value), f"({number(times.p95.value)})") if times else _UNKNOWN


def _requests(row: Row, is_cold: bool = False) -> Cell:
    load = row.run.load
    rate = load.requests_per_second if load and load.is_cold == is_cold else None
    return (number(rate.value),) if rate else _UNKNOWN


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
    return *_estimate(row.run.accuracy.single), *_not_parsed(row)


def _voted(row: Row) -> Cell:
    voted = headline(row.run)
    vote = [row.run.accuracy.headline] if voted else []
    return *_estimate(voted), *vote, *_not_parsed(row)


def _not_parsed(row: Row) -> Cell:
    # In the same cell, because an accuracy over replies that were not read is easily mistaken.
    said = not_parsed(row.run)
    return (f"({said})",) if said else ()


def _estimate(estimate: Estimate | None) -> Cell:
    return _UNKNOWN if estimate is None else (f"{estimate.value:.2f}", interval(estimate))


def _best_baseline(row: Row) -> Cell:
    """With the p-value of the entry's vote against it, and which way a difference goes."""
    if not row.baselines:
        return _UNKNOWN
    best = best_baseline(row.baselines)
    test = baseline_test(best, row.run)
    if test is None or test.p_adjusted is None:
        return f"{best.estimate.value:.2f}", best.name
    is_shown = test.outcome in (Outcome.BETTER, Outcome.WORSE)
    shown = f"model {test.outcome}, " if is_shown else ""
    return f"{best.estimate.value:.2f}", best.name, f"({shown}{p_value(test.p_adjusted)})"


def best_baseline(baselines: Sequence[Baseline]) -> Baseline:
    """Not the one with the smallest p-value: the model has to beat the most accurate of them."""
    return max(baselines, key=lambda one: one.estimate.value)


def baseline_test(baseline: Baseline, run: RunSummary) -> Difference | None:
    """How the entry's accuracy differs from the baseline's; `None` where the entry has none."""
    if headline(run) is None:
        return None
    tests = (one for one in run.against_baselines if one.baseline == baseline.name)
    return next((one.difference for one in tests), None)


_LOOKS: Mapping[str, Figure] = {
    one.name: one
    for one in (
        Figure("engine", ("engine", "and weights"), _engine, columns=16),
        Figure("device", ("device",), _device, unsaid=_UNKNOWN),
        Figure(
            "prompt_tokens", ("prompt", "tokens"), _prompt_tokens, columns=15, unsaid=_OWN_TOKENS
        ),
        Figure("examples_per_voter", ("shown", "examples", "(fill)"), _context_fit),
        Figure(
            "time_to_first_token_ms",
            ("ms to", "first", "token", "(p95)"),
            _first_token,
            unsaid=_OF_CLIENT,
        ),
        Figure(
            "request_time_to_first_token_ms",
            ("request:", "ms to first", "token", "(p95)"),
            _request_first_token,
            unsaid=_UNKNOWN,
        ),
        Figure("requests_per_second", ("requests/s",), _requests, unsaid=_UNKNOWN),
        Figure(
            "cold_request_time_to_first_token_ms",
            ("request,", "cold: ms", "to first", "token", "(p95)"),
            partial(_request_first_token, is_cold=True),
            unsaid=_UNKNOWN,
        ),
        Figure(
            "cold_requests_per_second",
            ("requests/s,", "cold"),
            partial(_requests, is_cold=True),
            unsaid=_UNKNOWN,
        ),
        Figure("computed_tokens", ("prefill", "tokens /", "minimum"), _computed),
        Figure("peak_rss_mib", ("peak", "memory", "MiB"), _memory),
        Figure("parse_rate", ("parsed", "(strict)"), _parsed),
        Figure(_QUERIES, ("queries", "answered"), _queries, differing=True),
        Figure("accuracy_single", ("accuracy", "one voter"), _single),
        Figure("accuracy", ("accuracy", "voted"), _voted),
        Figure("best_baseline", ("best", "baseline", "(no LLM)"), _best_baseline, unsaid=_UNKNOWN),
    )
}
_ORDER = (
    "engine",
    "device",
    "prompt_tokens",
    "examples_per_voter",
    "prefill_tokens_per_second",
    "decode_tokens_per_second",
    "time_to_first_token_ms",
    "request_time_to_first_token_ms",
    "requests_per_second",
    "cold_request_time_to_first_token_ms",
    "cold_requests_per_second",
    "computed_tokens",
    "peak_rss_mib",
    "parse_rate",
    "queries",
    "accuracy_single",
    "accuracy",
    "best_baseline",
)
"""Any other metric that is for the table stands before the last."""
