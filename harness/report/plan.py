"""What `harness run --plan` says: what will be prompted, in how much memory and time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Group
from rich.text import Text

from harness.fit.memory import smallness
from harness.machine.memory import MIB, size
from harness.pipeline.plan import Forecast, PlannedEntry, RunPlan
from harness.record import Record
from harness.report.formats import Answer, flat
from harness.report.table import Sheet, simple_table
from harness.report.text import NOTHING, duration, duration_within, lines, span

_FIGURES = ("prompts", "tokens", "to prefill", "MiB")
_WIDEST_INTERVAL = 14  # characters, in a line of a table
_HOW_SURE = (
    "Times are of this machine, with what other programs leave of it now; 9 of 10 runs are to be "
    "within the interval."
)


class PlanJson(Record):
    """What `harness run --plan --json` prints: a plan, or one for each point of a curve."""

    plans: list[RunPlan]


def plan_answer(plans: Sequence[RunPlan]) -> Answer:
    parts: list[Sheet | Text] = []
    for one in plans:
        parts += [lines(*([""] if parts else []), *_said(one)), lines(""), _entries(one)]
    notes = [line for one in plans for line in _memory_notes(one)]
    data = PlanJson(plans=list(plans)).model_dump(mode="json")
    rows = [
        {"max_model_len": one.max_model_len, "shots": one.shots, **flat(PlannedEntry, entry)}
        for one in plans
        for entry in one.entries
    ]
    columns = ["max_model_len", "shots", *flat(PlannedEntry, None)]
    return Answer(
        Group(*parts, lines(*dict.fromkeys(notes), _HOW_SURE)), data, rows, columns=columns
    )


def _said(found: RunPlan) -> Iterator[str]:
    shown = span(found.examples_per_voter)
    yield (
        f"{found.voters} {'voter' if found.voters == 1 else 'voters'} x {found.queries} "
        f"{'query' if found.queries == 1 else 'queries'}, {shown} examples each, "
        f"{found.limit:,} tokens of context."
    )
    if found.seconds is None:
        yield "How long the run will take is not known."
    else:
        said, ends = _time(found.seconds)
        yield (
            f"The run will take about {said} ({ends}), of which "
            f"{duration(found.harness_seconds)} are outside the engines."
        )


def _time(found: Forecast) -> tuple[str, str]:
    return duration_within(found.value, found.interval.low, found.interval.high)


def _entries(found: RunPlan) -> Sheet:
    return simple_table(
        ["entry", *_FIGURES, "time", "known by"],
        [
            [
                one.entry,
                *(_count(n) for n in (one.prompts, one.prompt_tokens, one.prefill_tokens)),
                NOTHING if one.memory is None else f"{one.memory.total_bytes / MIB:,.0f}",
                NOTHING if one.seconds is None else _interval(one.seconds),
                _source(one),
            ]
            for one in found.entries
        ],
        numbers=_FIGURES,
    )


def _interval(found: Forecast) -> str:
    """In two lines where it is long: a narrow terminal would break it elsewhere."""
    _, said = _time(found)
    return said.replace(" to ", "\nto ") if len(said) > _WIDEST_INTERVAL else said


def _count(number: int | None) -> str:
    return NOTHING if number is None else f"{number:,}"


def _source(one: PlannedEntry) -> str:
    if one.earlier_runs:
        return f"{one.earlier_runs} earlier run{'s' if one.earlier_runs > 1 else ''}"
    return one.source or NOTHING


def _memory_notes(found: RunPlan) -> Iterator[str]:
    for one in found.entries:
        if one.memory is None or one.failure is not None:  # the error says it
            continue
        if one.memory.bytes_over:
            yield f"{one.entry}: {size(one.memory.bytes_over)} more memory than may be taken."
        if too_small := smallness(one.memory, found.limit):
            yield f"{one.entry}: {too_small}."
