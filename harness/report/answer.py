"""What a run comes to: the answer in short, the table, and what stands under it, its caveats among
it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import JsonValue
from rich.console import Group, RenderableType
from rich.text import Text

from harness.comparison.compare import agreements, leads
from harness.comparison.metrics import METRICS
from harness.comparison.records import Agreement, Lead
from harness.contract import SessionInfo
from harness.machine.environment import Environment
from harness.report import verdicts
from harness.report.agreement import agreement_notes, agreement_table, with_replies
from harness.report.figures import VOTES, Row, is_in_table, title_of
from harness.report.formats import Answer, flat
from harness.report.load import load_table
from harness.report.machine import machine_lines
from harness.report.table import FiguresTable, simple_table
from harness.report.text import NOTHING, brief, lines, p_column, percent, sentences, share, unbroken
from harness.report.words import (
    MISSING,
    accuracy_sentence,
    data_sentence,
    not_parsed,
    presented,
    presented_agreement,
    sharing_sentence,
    worded,
)
from harness.spec import DataSpec, RunSpec, entries_of
from harness.store.runs import StoredRun
from harness.summary import SHUFFLED, BaselineTest, RunSummary, Summary, headline, is_mock

_TITLES = ("vote or baseline", "accuracy", "model - baseline, pp\n(95 % interval)", "p")


class RunJson(Summary):
    """What `harness run --json` and `harness baseline --json` print: the summary, and with what it
    was measured.

    `spec` are the fields of the run, home folders written `~`. `environment` is that of the run's
    beginning, null where the store could not be read any more. `leads` says for each metric which
    entry has the best figure and how it differs from each other, and `agreements` how far each pair
    of entries agrees: both are empty for one entry, and for a run that is `unfinished`.
    """

    state: Literal["done", "unfinished"]
    spec: dict[str, JsonValue]
    environment: Environment | None
    leads: list[Lead]
    agreements: list[Agreement]


@dataclass(frozen=True, slots=True)
class Beside:
    """What is stored of a run beside its spec and its summary.

    `infos` are of each entry's last session, `environments` of all sessions, that of the run's
    beginning first. `resume` is what completes the run, `None` where it is complete;
    `cells` are all of one entry.
    """

    environments: Sequence[Environment] = ()
    infos: Mapping[str, SessionInfo | None] = field(default_factory=dict)
    leads: Sequence[Lead] = ()
    agreements: Sequence[Agreement] = ()
    resume: str | None = None
    cells: int = 0

    @property
    def state(self) -> Literal["done", "unfinished"]:
        return "unfinished" if self.resume else "done"

    @property
    def environment(self) -> Environment | None:
        return self.environments[0] if self.environments else None

    @classmethod
    def of(cls, run: StoredRun, is_compared: bool = True) -> Beside:
        """Unless that is not wanted, entries are compared where there are several and all of them
        are complete."""
        entries = list(run.entries.values())
        compared = entries if is_compared and run.is_finished and len(entries) > 1 else []
        return cls(
            environments=run.environments,
            infos={entry.name: entry.info for entry in entries},
            leads=leads(compared) if compared else (),
            agreements=agreements(compared),
            resume=None if run.is_finished else run.resume_command,
            cells=len(run.prompts) * run.spec.attempts,
        )


def run_answer(spec: RunSpec, summary: Summary, beside: Beside = Beside()) -> Answer:
    """What the data are, the answer in short, the table, what was prompted, the accuracy by voters,
    baselines and caveats.

    CSV has a row for each entry.
    """
    in_short = _in_short(summary, beside)
    parts = Group(*_data(summary), in_short, Text(), *_parts(spec, summary, beside))
    data = run_json(spec, summary, beside).model_dump(mode="json")
    return Answer(parts, data, entry_records(spec, summary, beside), in_short=in_short)


def run_json(spec: DataSpec, summary: Summary, beside: Beside = Beside()) -> RunJson:
    of_summary = {name: getattr(presented(summary), name) for name in Summary.model_fields}
    return RunJson(
        **of_summary,
        state=beside.state,
        spec=spec.model_dump(mode="json"),
        environment=beside.environment,
        leads=list(beside.leads),
        agreements=list(map(presented_agreement, beside.agreements)),
    )


def entry_records(
    spec: RunSpec, summary: Summary, beside: Beside = Beside()
) -> list[dict[str, Any]]:
    """What the CSV of a run has of each entry: every figure by its path in the JSON."""
    begin = {
        "run_id": summary.run_id,
        "created": summary.created,
        "name": summary.name,
        "group": summary.group,
        "state": beside.state,
        **{f"spec.{name}": getattr(spec, name) for name in _OF_SPEC},
    }
    return [
        {
            **begin,
            "mock": is_mock(run),
            **flat(RunSummary, run),
            **{f"metrics.{name}": value for name, value in run.metrics.items()},
            **{name: getattr(beside.infos.get(run.entry), name, None) for name in _OF_INFO},
            **flat(Environment, beside.environment, "environment."),
        }
        for run in presented(summary).runs
    ]


def entry_columns() -> list[str]:
    """The names of what `entry_records` has."""
    return [
        *("run_id", "created", "name", "group", "state"),
        *(f"spec.{name}" for name in _OF_SPEC),
        "mock",
        *flat(RunSummary, None),
        *(f"metrics.{name}" for name in METRICS),
        *_OF_INFO,
        *flat(Environment, None, "environment."),
    ]


_OF_INFO = ("device", "threads")
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
    """One line: data, model, size, decoding, context, run; others for its group, and for a run
    whose prompts these are.

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
        f"{spec.decoding} decoding; {spec.max_model_len:,} tokens of context; seed {spec.seed}"
    ]
    if summary.group is not None:
        said.append(f"It belongs to the group {summary.group}.")
    if spec.prompts_from:
        said.append(f"Its prompts are those of run {spec.prompts_from}.")
    return sentences(*said)


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
            if is_in_table(figure, summary.runs):
                figures.setdefault(MISSING[reason], []).append(title_of(figure))
        for why, names in figures.items():
            said.setdefault(f"{', '.join(names)}: {why}.", []).append(run.entry)
    return sentences(*(f"note: {_who(who, summary.runs)}{note}" for note, who in said.items()))


def _data(summary: Summary) -> Iterator[Text]:
    # In runs of earlier versions it is not known.
    if summary.data is not None:
        yield lines(data_sentence(summary.runs[0].dataset, summary.data))


def _in_short(summary: Summary, beside: Beside) -> Group:
    runs = summary.runs
    said = [] if beside.resume is None else _how_far(summary, beside.cells)
    said += verdicts.reservations((run.entry, run) for run in runs)
    if len(runs) == 1:
        said += verdicts.of_one(runs[0], summary.baselines)
    else:
        said += verdicts.unread((run.entry, run) for run in runs)
        names = verdicts.names((summary.run_id, run.entry) for run in runs)
        said += verdicts.of_sides(beside.leads, names, has_different_queries(runs))
        said += verdicts.of_several(runs, summary.baselines)
    go_on = [] if beside.resume is None else [unbroken(f"Go on with: {beside.resume}")]
    return Group(lines(*said), *go_on)


def _how_far(summary: Summary, cells: int) -> list[str]:
    """How much of an unfinished run there is; each entry has so many cells."""
    each = ", ".join(f"{run.entry} {run.cells.done:,}" for run in summary.runs)
    done, total = sum(run.cells.done for run in summary.runs), cells * len(summary.runs)
    which = f" ({each})" if len(summary.runs) > 1 else ""
    return [f"UNFINISHED: {done:,} of {total:,} replies are stored{which}."]


def has_different_queries(runs: Sequence[RunSummary]) -> bool:
    """Whether the accuracies are over different numbers of queries."""
    return len({run.accuracy.answered for run in runs} - {0}) > 1


def _parts(spec: RunSpec, summary: Summary, beside: Beside) -> Iterator[RenderableType]:
    runs, agreements = summary.runs, with_replies(beside.agreements)
    yield FiguresTable(
        [
            Row(
                run,
                summary.baselines,
                info=beside.infos.get(run.entry),
                ahead=metrics_ahead(beside.leads, summary.run_id, run.entry),
            )
            for run in runs
        ]
    )
    yield Text()
    yield what_was_prompted(spec, summary)
    if beside.environments:
        yield machine_lines(beside.environments)
    for run in runs:
        who = _who([run.entry], runs)
        # Of one entry the sentence is the answer in short.
        sentence = [who + accuracy_sentence(run)] if len(runs) > 1 else []
        by_voters = [who + _by_voters(run)] if headline(run) else []
        shared = [who + sharing] if (sharing := sharing_sentence(run)) else []
        if parts := [*sentence, *by_voters, *shared]:
            yield lines(*parts)
    if len(runs) > 1 and beside.resume is None:
        yield lines(f"Each pair, with intervals: harness compare {summary.run_id}")
    yield Text()
    if loads := [(run.entry, run.load) for run in runs if run.load]:
        yield from (load_table(loads), Text())
    if agreements:
        yield agreement_table(agreements)
        yield Text()
    if summary.baselines or any(run.shuffled for run in runs):
        rows = [*_votes(runs, ("", "")), *_baselines(summary)]
        yield simple_table(_TITLES, rows, numbers=_TITLES[-1:])
    else:
        yield simple_table(("vote", "accuracy"), _votes(runs))
    yield Text()
    whole, own = summary.wall_seconds, summary.harness_seconds
    if whole and own is not None:
        # Less than nothing of a mock, which makes its seconds up.
        outside = f", {percent(own / whole)} of it outside the engine" if own >= 0 else ""
        yield Text(f"Took {whole:.1f} s{outside}.")
    if said := notes(summary):
        yield said
    if any(one.caveats for one in agreements):
        yield agreement_notes(agreements)


def metrics_ahead(leads: Sequence[Lead], run_id: str, entry: str) -> frozenset[str]:
    """The metrics in which the entry is better than every other."""
    return frozenset(
        lead.metric
        for lead in leads
        if lead.ahead_of_all and (lead.best.run_id, lead.best.entry) == (run_id, entry)
    )


def _votes(runs: Sequence[RunSummary], behind: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    # Of one among several that gave no reply, the lines above the table say so.
    for run in runs if len(runs) == 1 else [run for run in runs if run.cells.done]:
        unread = f", {not_parsed(run)}" if not_parsed(run) else ""
        for vote in VOTES:
            name = f"{_who([run.entry], runs)}{vote} vote"
            found = getattr(run.accuracy, vote)
            yield name, share(found) + (unread if found else ""), *behind


def _baselines(summary: Summary) -> Iterator[tuple[str, ...]]:
    """A row each, with the test of the entry's vote; of several entries each in a row below."""
    for one in summary.baselines:
        tests = [
            (run.entry, test)
            for run in summary.runs
            for test in run.against_baselines
            if test.baseline == one.name and headline(run) is not None
        ]
        # With several entries each test has its own row: the baseline's accuracy is one for all.
        if len(summary.runs) == 1 and tests:
            yield one.name, share(one.estimate), *_test(tests[0][1])
            continue
        yield one.name, share(one.estimate), "", ""
        for entry, test in tests:
            yield f"  {entry}", "", *_test(test)
    yield from _shuffled(summary.runs)


def _shuffled(runs: Sequence[RunSummary]) -> Iterator[tuple[str, ...]]:
    """The sanity check, which each entry has its own of."""
    for run in runs:
        if run.shuffled is not None:
            tests = (one for one in run.against_baselines if one.baseline == SHUFFLED)
            test = next(tests, None) if headline(run) is not None else None
            said = _test(test) if test else ("", "")
            parsed = run.shuffled.parsed
            unread = "" if parsed in (None, 1) else f", {percent(parsed)} parsed"
            who = _who([run.entry], runs)
            vote = run.shuffled.vote
            which = "" if vote == run.accuracy.headline else f", {vote} vote"
            yield f"{who}{SHUFFLED}{which}", share(run.shuffled.estimate) + unread, *said


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
