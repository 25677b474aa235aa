"""How the other sides of a comparison differ from the first, and in loud sentences where they
cannot be compared as they are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from harness.comparison.metrics import METRICS
from harness.comparison.records import Compared, Comparison, FieldDifference, Flip, What
from harness.imports.records import ImportRow
from harness.metrics import Difference
from harness.report.agreement import (
    agreement_notes,
    agreement_table,
    where_they_differ,
    with_replies,
)
from harness.report.answer import has_different_queries, metrics_ahead, what_was_prompted
from harness.report.baselines import what_was_classified
from harness.report.figures import BaselineRow, Row
from harness.report.formats import Answer, flat
from harness.report.imports import imports_table
from harness.report.machine import machine_lines
from harness.report.table import FiguresTable, Sheet, simple_table
from harness.report.text import Sentences, brief, factor, lines, number, p_column, p_value, plain
from harness.report.verdicts import names, of_sides, reservations, samples, unread
from harness.report.words import presented_comparison
from harness.spec import RunSpec
from harness.store.runs import Side, StoredBaseline, StoredEntry, StoredRun

_TITLES = ("", "first", "other", "change\n(95 % interval)", "p", "other is")
_NUMBERS = ("first", "other", "p")
_WHAT_DIFFERS: dict[What, str] = {
    "text": "another text",
    "tokens": "the same text, other tokens",
    "missing": "only one of them has this prompt",
}
_COUNTED = "counted"  # the test of what has no samples
_LOUD = "bold reverse"


def compare_answer(
    found: Sequence[Side], compared: Compared, flips: bool, explain: bool = False
) -> Answer:
    """Who is ahead in what, the table of `harness run`, what other tools have measured, the
    differences, agreement; with `explain` how the figures come about.

    CSV has a row for each metric of each side but the first.
    """
    records = [
        _record(one, difference) for one in compared.against_first for difference in one.differences
    ]
    data = presented_comparison(compared).model_dump(mode="json")
    in_short = _in_short(found, compared)
    parts = Group(in_short, "", *_parts(found, compared, flips, explain))
    return Answer(parts, data, records, _columns(), in_short)


def _in_short(found: Sequence[Side], compared: Compared) -> Group:
    """Who is ahead, and what stands in the way of saying so."""
    entries = [side for side in found if isinstance(side, StoredEntry)]
    sides = {(one.run.run_id, one.name): one.summary for one in entries}
    keys = [*sides, *(key for pair in compared.against_first for key in _keys(pair))]
    name = names(keys, {run.run_id: run.name for run in compared.runs if run.name})
    said = [
        *reservations((name[key], run) for key, run in sides.items()),
        *unread((name[key], run) for key, run in sides.items()),
        *of_sides(compared.leads, name, _differ_in_queries(found, compared)),
    ]
    text = lines(*said) if said else lines("There is no metric in common.")
    # How an entry was prompted that gave no reply stands in no one's way.
    silent = {key for key, run in sides.items() if not run.cells.done}
    heard = [one for one in compared.against_first if silent.isdisjoint(_keys(one))]
    if warned := loud_warnings(heard):
        return Group(text, warned)
    return Group(text)


def _keys(one: Comparison) -> list[tuple[str, str]]:
    return [(member.run_id, member.entry) for member in (one.first, one.other)]


def _differ_in_queries(found: Sequence[Side], compared: Compared) -> bool:
    """Whether shares are over different numbers of queries, on two sides or in two pairs."""
    runs = [side.summary for side in found if isinstance(side, StoredEntry)]
    pairs = [one for pair in compared.against_first for one in pair.differences]
    counts = {count for one in pairs if one.metric == "accuracy" for count in one.samples}
    return has_different_queries(runs) or len(counts) > 1


def _parts(
    found: Sequence[Side], compared: Compared, flips: bool, explain: bool
) -> Iterator[RenderableType]:
    ours = [side for side in found if not isinstance(side, ImportRow)]
    imports = [side for side in found if isinstance(side, ImportRow)]
    runs = {side.run.run_id: side.run for side in ours}
    if ours:
        # The line below the table names a run that is the only one.
        rows = [_figures_row(one, compared, with_run=len(runs) > 1) for one in ours]
        yield from (FiguresTable(rows), "")
    if imports:
        yield from (imports_table(imports), "")
    for run in runs.values():
        yield what_was_asked(run)
    if runs:
        yield machine_lines([one for run in runs.values() for one in run.environments])
    with_n = _differ_in_queries(found, compared)
    yield from ("", difference_table(compared, with_n), about(compared))
    yield methods(compared) if explain else lines("How these figures come about: --explain")
    yield ""
    if flips:
        yield from (*flip_parts(compared.against_first), "")
    if every := with_replies(compared.agreements):
        said = agreement_table(every), where_they_differ(every), agreement_notes(every)
        yield from filter(None, said)


def _figures_row(
    side: StoredEntry | StoredBaseline, compared: Compared, with_run: bool
) -> Row | BaselineRow:
    run = side.run
    note = "\n".join(filter(None, [run.name, run.run_id])) if with_run else ""
    ahead = metrics_ahead(compared.leads, run.run_id, side.name)
    if isinstance(side, StoredBaseline):
        return BaselineRow(side.name, side.record, note, ahead)
    return Row(side.summary, run.summary.baselines, note, side.info, ahead)


def what_was_asked(run: StoredRun) -> Text:
    """One line of either kind of run."""
    if isinstance(run.any_spec, RunSpec):
        return what_was_prompted(run.any_spec, run.summary)
    return what_was_classified(run.any_spec, run.summary)


def difference_table(compared: Compared, with_n: bool = False) -> Sheet:
    """A row for each metric of each side but the first; with numbers of queries where wanted."""
    return simple_table(_TITLES, _rows(compared, with_n), numbers=_NUMBERS)


def loud_warnings(comparisons: Sequence[Comparison]) -> Text:
    """What stands in the way of comparing, set off from all else."""
    text = Sentences()
    for sentence in (said for one in comparisons for said in warnings(one)):
        text.append("\n" if text else "").append(plain(sentence), style=_LOUD)
    return text


def warnings(one: Comparison) -> list[str]:
    """Sentences; none where both were given the same under the same conditions."""
    return list(_warnings(one))


def _warnings(one: Comparison) -> Iterator[str]:
    who = f"{one.first.called} and {one.other.called}"  # as the values that differ stand
    # Of what another tool has measured neither prompts nor spec are known.
    if one.elsewhere:
        if one.conditions:
            yield f"WARNING: {who}: not measured alike: {_fields(one.conditions)}."
        return
    if one.unpaired_because is not None:
        yield f"WARNING: {who}: queries are not paired: {one.unpaired_because}."
    if one.prompts_equal is None:  # a baseline has no prompts
        if one.spec:
            yield f"WARNING: {who}: specs differ in {_fields(one.spec)}."
        return
    if not one.same_text:
        yield f"WARNING: {who}: given other prompts{_where(one)}. Differences may come from that."
    # Other texts are other tokens: one warning is enough.
    elif not one.same_tokens:
        yield f"WARNING: {who}: given the same text as other tokens{_where(one)}."
    if one.spec:
        yield f"WARNING: {who}: specs differ in {_fields(one.spec)}."
    if one.conditions:
        yield f"WARNING: {who}: conditions differ in {_fields(one.conditions)}."


def about(compared: Compared) -> Text:
    """What was the same, and whether all sides are equally right."""
    every = compared.against_first
    same = [one for one in every if one.prompts_equal]
    if len(same) == len(every) > 1:
        said = ["All were given the same prompts."]
    else:
        said = [
            f"{one.other.called}: given the same prompts as {one.first.called}." for one in same
        ]
    for one in every:
        if any(field.field == "clock" for field in one.conditions):
            said.append(
                f"{one.first.called} and {one.other.called}: times of one are the client's, of the "
                "other the engine's own. They have different names, and are not compared."
            )
    if compared.same_accuracy_p is not None:
        said.append(
            f"That all are right equally often: Cochran's Q, {p_value(compared.same_accuracy_p)}."
        )
    return lines(*said)


def methods(compared: Compared) -> Text:
    """How the figures come about."""
    return lines(" ".join(_how(compared)))


def _how(compared: Compared) -> Iterator[str]:
    found = [one for comparison in compared.against_first for one in comparison.differences]
    shares = [one for one in found if one.kind == "difference"]
    if shares:
        whose = "the same queries" if all(one.paired for one in shares) else "the queries of each"
        tests = "; ".join(dict.fromkeys(one.test for one in shares))
        yield f"Shares: other - first over {whose}; p by {tests}."
    ratios = {one.test for one in found if one.kind == "ratio"}
    if ratios - {_COUNTED}:
        yield _HOW_RATIOS
    if _COUNTED in ratios:
        yield "What was counted has neither interval nor p."
    if found:
        yield (
            "A difference is reported only if its 95 % interval excludes no change and p < 0.05, "
            "adjusted by Holm over the pairs of each metric: those with the first side and those "
            "with the one that has the best figure."
        )


_HOW_RATIOS = (
    "Speeds, times and memory: other / first, over blocks of a few seconds, or one figure for each "
    "session; interval by bootstrap, p by Mann-Whitney, both corrected for autocorrelation."
)


def flip_parts(comparisons: Sequence[Comparison]) -> Iterator[Text | Sheet]:
    """How many queries changed, and each that one side got right and the other wrong."""
    for one in comparisons:
        right = sum(flip.other == flip.truth for flip in one.flips)
        wrong = len(one.flips) - right
        yield lines(f"{one.other.called}: {right:,} queries became right, {wrong:,} wrong.")
        if one.flips:
            titles = ("query", "row", "truth", one.first.entry, f"{one.other.entry} (other)")
            yield simple_table(titles, map(_flip, one.flips), numbers=("query", "row"))


def _flip(flip: Flip) -> tuple[str, ...]:
    return str(flip.position), str(flip.row), flip.truth, flip.first, flip.other


def _rows(compared: Compared, with_n: bool) -> Iterator[tuple[str, ...]]:
    every = compared.against_first
    is_one_run = len({side.run_id for one in every for side in (one.first, one.other)}) == 1
    names = {run.run_id: run.name for run in compared.runs}
    for one in every:
        run_id = one.other.run_id
        which = [] if is_one_run else filter(None, [names.get(run_id), run_id])
        yield "\n".join([one.other.entry, *which]), "", "", "", "", ""
        if not one.differences:
            yield "  no metric in common", "", "", "", "", ""
        yield from (_row(difference, with_n) for difference in one.differences)


def _row(one: Difference, with_n: bool) -> tuple[str, ...]:
    metric = METRICS[one.metric]
    # Broken by hand: the words of an outcome are the same everywhere, and these are long.
    outcome = one.outcome.replace("significant ", "significant\n")
    figures = _value(one, one.first), _value(one, one.other)
    n = f"\n  {samples(one)}" if with_n and metric.is_share else ""
    return f"  {metric.title}{n}", *figures, _change(one), p_column(one.p_adjusted), outcome


def _value(one: Difference, value: float) -> str:
    return f"{value:.3f}" if METRICS[one.metric].is_share else number(value)


def _change(one: Difference) -> str:
    """`+1.2 pp` over `(-3.0 to 5.4)`, `x 0.96` over `(0.92 to 1.01)`."""
    span = one.interval
    if one.kind == "difference":
        between = f"\n({100 * span.low:.1f} to {100 * span.high:.1f})" if span else ""
        return f"{100 * one.change:+.1f} pp{between}"
    return f"x {factor(one.change)}" + (
        f"\n({factor(span.low)} to {factor(span.high)})" if span else ""
    )


def _where(one: Comparison) -> str:
    where = one.first_difference
    if where is None:
        return ""
    place = f"voter {where.voter}, {where.role} {where.position}"
    return f" (first at {place}: {_WHAT_DIFFERS[where.what]})"


def _fields(fields: Sequence[FieldDifference]) -> str:
    return ", ".join(f"{one.field} {brief(one.first)} / {brief(one.other)}" for one in fields)


def _record(one: Comparison, found: Difference) -> dict[str, Any]:
    """A row of CSV: a metric of one side against the first."""
    members = one.first, one.other
    whose = [getattr(member, what) for what in _OF_MEMBER for member in members]
    values = (*whose, one.prompts_equal, *flat(Difference, found).values(), *found.samples)
    return dict(zip(_columns(), values, strict=True))


_OF_MEMBER = {"run_id": "run", "entry": "entry", "backend": "backend"}


def _columns() -> list[str]:
    whose = [f"{side}_{name}" for name in _OF_MEMBER.values() for side in ("first", "other")]
    of_difference = (name.removeprefix("interval.") for name in flat(Difference, None))
    # `flat` leaves out tuples, as they have no column of their own.
    return [*whose, "prompts_equal", *of_difference, "first_samples", "other_samples"]
