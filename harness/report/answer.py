"""What a run comes to: the table and what stands under it, its caveats among it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from harness.comparison.metrics import METRICS
from harness.comparison.records import Agreement
from harness.report.agreement import agreement_notes, agreement_table
from harness.report.figures import VOTES, Row, is_in_table, title_of
from harness.report.formats import Answer, flat
from harness.report.table import FiguresTable, simple_table
from harness.report.text import NOTHING, brief, lines, p_column, percent, share
from harness.report.words import MISSING, accuracy_sentence, presented, worded
from harness.spec import RunSpec, entries_of
from harness.summary import BaselineTest, RunSummary, Summary, is_mock

_TITLES = ("vote or baseline", "accuracy", "model - baseline, pp\n(95 % interval)", "p")


def run_answer(spec: RunSpec, summary: Summary, agreements: Sequence[Agreement] = ()) -> Answer:
    """The table, what was prompted, the accuracy in words and by voters, baselines and caveats.

    `agreements` are those of a run of several entries. CSV has a row for each entry.
    """
    data = presented(summary).model_dump(mode="json")
    parts = Group(*_parts(spec, summary, agreements))
    return Answer(parts, data, entry_records(spec, summary))


def entry_records(spec: RunSpec, summary: Summary) -> list[dict[str, Any]]:
    """What the CSV of a run has of each entry: every figure by its path in the JSON."""
    begin = {
        "run_id": summary.run_id,
        "created": summary.created,
        "name": summary.name,
        "group": summary.group,
        **{f"spec.{name}": getattr(spec, name) for name in _OF_SPEC},
    }
    return [
        {
            **begin,
            "mock": is_mock(run),
            **flat(RunSummary, run),
            **{f"metrics.{name}": value for name, value in run.metrics.items()},
        }
        for run in presented(summary).runs
    ]


def entry_columns() -> list[str]:
    """The names of what `entry_records` has."""
    return [
        *("run_id", "created", "group"),
        *(f"spec.{name}" for name in _OF_SPEC),
        "mock",
        *flat(RunSummary, None),
        *(f"metrics.{name}" for name in METRICS),
    ]


# What tells runs apart, and is one value for all entries.
_OF_SPEC = (
    "data",
    "prompt",
    "voters",
    "reducer",
    "encoding",
    "decoding",
    "max_model_len",
    "shots",
    "temperature",
    "attempts",
)


def what_was_prompted(spec: RunSpec, summary: Summary) -> Text:
    """One line: data, model, size, decoding, run; others for its group, and for a run whose
    prompts these are.

    Queries are those that there were.
    """
    queries = summary.runs[0].accuracy.queries
    digest = f" ({brief(summary.data_sha256)})" if summary.data_sha256 else ""
    models = ", ".join(dict.fromkeys(entry.model for entry in entries_of(spec)))
    called = f" ({summary.name})" if summary.name else ""
    attempts = f" x {spec.attempts:,} attempts" if spec.attempts > 1 else ""
    said = [
        f"Run {summary.run_id}{called}: {spec.data}{digest}; {models}; "
        f"{_count(spec.voters, 'voter')} x {_count(queries, 'query', 'queries')}{attempts}; "
        f"{spec.decoding} decoding; seed {spec.seed}"
    ]
    if summary.group is not None:
        said.append(f"It belongs to the group {summary.group}.")
    if spec.prompts_from:
        said.append(f"Its prompts are those of run {spec.prompts_from}.")
    return lines(*said)


def notes(summary: Summary) -> Text:
    """The caveats with their advice, and why figures are missing, a note for each reason.

    What is true of several entries is said once.
    """
    said: dict[str, list[str]] = {}
    for run in summary.runs:
        for caveat in run.caveats:
            words = worded(caveat)
            said.setdefault(f"{words.message} {words.advice}", []).append(run.entry)
    for run in summary.runs:
        figures: dict[str, list[str]] = {}
        for figure, reason in run.missing.items():
            if is_in_table(figure):
                figures.setdefault(MISSING[reason], []).append(title_of(figure))
        for why, names in figures.items():
            said.setdefault(f"{', '.join(names)}: {why}.", []).append(run.entry)
    return lines(*(f"note: {_who(who, summary.runs)}{note}" for note, who in said.items()))


def _parts(
    spec: RunSpec, summary: Summary, agreements: Sequence[Agreement]
) -> Iterator[RenderableType]:
    runs = summary.runs
    yield FiguresTable([Row(run, summary.baselines) for run in runs])
    yield Text()
    yield what_was_prompted(spec, summary)
    for run in runs:
        who = _who([run.entry], runs)
        yield lines(who + accuracy_sentence(run), f"{who}{_by_voters(run)}")
    if len(runs) > 1:
        yield lines(f"How these rows differ, with intervals: harness compare {summary.run_id}")
    yield Text()
    if agreements:
        yield agreement_table(agreements)
        yield Text()
    if summary.baselines:
        rows = [*_votes(runs, ("", "")), *_baselines(summary)]
        yield simple_table(_TITLES, rows, numbers=_TITLES[-1:])
    else:
        yield simple_table(("vote", "accuracy"), _votes(runs))
    yield Text()
    whole, own = summary.wall_seconds, summary.harness_seconds
    if whole and own is not None:
        yield Text(f"Took {whole:.1f} s, {percent(own / whole)} of it outside the engine.")
    if said := notes(summary):
        yield said
    if any(one.caveats for one in agreements):
        yield agreement_notes(agreements)


def _votes(runs: Sequence[RunSummary], behind: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for run in runs:
        for vote in VOTES:
            name = f"{_who([run.entry], runs)}{vote} vote"
            yield name, share(getattr(run.accuracy, vote)), *behind


def _baselines(summary: Summary) -> Iterator[tuple[str, ...]]:
    """A row each, with the test of the entry's vote; of several entries each in a row below."""
    for one in summary.baselines:
        tests = [
            (run.entry, test)
            for run in summary.runs
            for test in run.against_baselines
            if test.baseline == one.name
        ]
        # With several entries each test has its own row: the baseline's accuracy is one for all.
        if len(summary.runs) == 1 and tests:
            yield one.name, share(one.estimate), *_test(tests[0][1])
            continue
        yield one.name, share(one.estimate), "", ""
        for entry, test in tests:
            yield f"  {entry}", "", *_test(test)


def _test(test: BaselineTest) -> tuple[str, str]:
    found = test.difference
    span = found.interval
    ends = f" ({100 * span.low:.1f} to {100 * span.high:.1f})" if span else ""
    return f"{100 * found.change:+.1f}{ends}", p_column(found.p_adjusted)


def _by_voters(run: RunSummary) -> str:
    """`Calibrated vote by number of voters: 1: 0.77  2: 0.79`."""
    headline = run.accuracy.headline
    values = ((one.voters, getattr(one, headline)) for one in run.accuracy.by_voters)
    figures = (f"{n}: {NOTHING if value is None else f'{value:.2f}'}" for n, value in values)
    return f"{headline.capitalize()} vote by number of voters: {'  '.join(figures)}"


def _who(entries: Sequence[str], runs: Sequence[RunSummary]) -> str:
    """A prefix that names entries, unless it is all of them."""
    return "" if len(entries) == len(runs) else f"{', '.join(entries)}: "


def _count(count: int, one: str, many: str = "") -> str:
    return f"{count:,} {one if count == 1 else many or one + 's'}"
