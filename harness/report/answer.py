"""What a kept run is told as: the table and what stands under it, its caveats among it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.text import Text

from harness.comparison.records import Agreement
from harness.report.agreement import agreement_notes, agreement_table
from harness.report.figures import controls_by_name
from harness.report.table import Row, figures_table, simple_table
from harness.report.text import NOTHING, lines, percent, share
from harness.spec import RunSpec
from harness.summary import Caveat, RunSummary, Summary


@dataclass(frozen=True, slots=True)
class Kept:
    """A finished run as it was kept."""

    spec: RunSpec
    summary: Summary


def answer(kept: Kept, width: int, agreements: Sequence[Agreement] = ()) -> Group:
    """The table, what was asked, the accuracy in words and by voters, controls and caveats.

    `agreements` are those of a run over several backends.
    """
    return Group(*_answer(kept, width, agreements))


def what_was_asked(kept: Kept) -> Text:
    """One line: data, model, size, decoding, run; another for a run whose prompts these are.

    Queries are those that there were to ask.
    """
    spec = kept.spec
    queries = kept.summary.runs[0].accuracy.queries
    asked = (
        f"Run {kept.summary.run_id}: {spec.data}; {spec.model}; {_count(spec.voters, 'voter')} x "
        f"{_count(queries, 'query', 'queries')}; {spec.decoding} decoding; seed {spec.seed}"
    )
    again = [f"Its prompts are those of run {spec.prompts_from}."] if spec.prompts_from else []
    return lines(asked, *again)


def notes(kept: Kept) -> Text:
    """The caveats with their advice, the backends' common ones once."""
    runs = kept.summary.runs
    told: dict[Caveat, list[str]] = {}
    for run in runs:
        for caveat in run.caveats:
            told.setdefault(caveat, []).append(run.backend)
    return lines(
        *(
            f"note: {_who(backends, runs)}{caveat.message} {caveat.advice}"
            for caveat, backends in told.items()
        )
    )


def _answer(kept: Kept, width: int, agreements: Sequence[Agreement]) -> Iterator[RenderableType]:
    runs = kept.summary.runs
    yield figures_table([Row(run) for run in runs], width)
    yield Text()
    yield what_was_asked(kept)
    for run in runs:
        who = _who([run.backend], runs)
        yield lines(who + run.accuracy.sentence, f"{who}{_by_voters(run)}")
    if len(runs) > 1:
        yield lines(f"How these rows differ, with intervals: harness compare {kept.summary.run_id}")
    yield Text()
    if agreements:
        yield agreement_table(agreements)
        yield Text()
    yield simple_table(("vote or control", "accuracy"), [*_votes(runs), *_controls(runs[0])])
    yield Text()
    yield from _timing(kept.summary)
    if any(run.caveats for run in runs):
        yield notes(kept)
    if any(one.caveats for one in agreements):
        yield agreement_notes(agreements)


def _votes(runs: list[RunSummary]) -> Iterator[tuple[str, str]]:
    for run in runs:
        for vote in ("majority", "soft", "calibrated"):
            yield _who([run.backend], runs) + f"{vote} vote", share(getattr(run.accuracy, vote))


def _controls(run: RunSummary) -> Iterator[tuple[str, str]]:
    """They see the data and the numbers that were shown: the same for all backends of a run."""
    for name, estimate in controls_by_name(run.controls).items():
        yield name, share(estimate)


def _by_voters(run: RunSummary) -> str:
    """`Calibrated vote by number of voters: 1: 0.77  2: 0.79`."""
    headline = run.accuracy.headline
    values = ((one.voters, getattr(one, headline)) for one in run.accuracy.by_voters)
    figures = (f"{n}: {NOTHING if value is None else f'{value:.2f}'}" for n, value in values)
    return f"{headline.capitalize()} vote by number of voters: {'  '.join(figures)}"


def _timing(summary: Summary) -> Iterator[Text]:
    whole, own = summary.wall_seconds, summary.harness_seconds
    if whole and own is not None:
        yield Text(f"Took {whole:.1f} s, {percent(own / whole)} of it outside the engine.")


def _who(backends: list[str], runs: list[RunSummary]) -> str:
    """A prefix that names backends, unless it is all of them."""
    return "" if len(backends) == len(runs) else f"{', '.join(backends)}: "


def _count(count: int, one: str, many: str = "") -> str:
    return f"{count:,} {one if count == 1 else many or one + 's'}"
