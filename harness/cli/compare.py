"""`harness compare`: the rows of several runs in one table, and whether their backends agree."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from harness.cli.console import answers
from harness.cli.kept import open_store, read_kept
from harness.cli.options import RESULTS, JsonOption, ResultsOption
from harness.errors import UsageError

if TYPE_CHECKING:
    from harness.report.answer import Kept
    from harness.report.compare import Asked, Comparison
    from harness.store.store import Store
    from harness.summary import Agreement

RunsArgument: TypeAlias = Annotated[
    list[str], typer.Argument(metavar="RUN", help='Ids, beginnings of ids, or "latest".')
]


def compare(runs: RunsArgument, results: ResultsOption = RESULTS, json: JsonOption = False) -> None:
    """Print several runs as one table, and whether their backends agree.

    One run over several backends will do. Prompts count where both were asked the same text.
    """
    from harness.cli.agreement import read_agreements
    from harness.report.compare import Compared

    with open_store(results) as store:
        kept = _read(store, runs, results)
        comparisons = [_compare(store, kept[0], other) for other in kept[1:]]
        agreements = read_agreements(store, kept)
    if json:
        summaries = [one.summary for one in kept]
        whole = Compared(runs=summaries, against_first=comparisons, agreements=agreements)
        typer.echo(whole.model_dump_json())
    else:
        _print(kept, comparisons, agreements)


def _read(store: Store, runs: Sequence[str], results: Path) -> list[Kept]:
    rows = {row.run_id: row for row in map(store.run, runs)}
    kept = [read_kept(row, results) for row in rows.values()]
    if sum(len(one.summary.runs) for one in kept) < 2:
        raise UsageError(
            "a comparison takes two runs or more, or one over several backends",
            remedy="`harness list` shows which there are.",
        )
    return kept


def _compare(store: Store, first: Kept, other: Kept) -> Comparison:
    from harness.report.compare import compare

    return compare(first, other, _asked(store, first), _asked(store, other))


def _asked(store: Store, kept: Kept) -> Asked:
    from harness.report.compare import Asked

    run_id = kept.summary.run_id
    rows = {run.backend: store.prompt_tokens(run_id, run.backend) for run in kept.summary.runs}
    tokens = {backend: [row.token_sha256 for row in every] for backend, every in rows.items()}
    return Asked(store.prompts(run_id), tokens)


def _print(
    kept: Sequence[Kept], comparisons: Sequence[Comparison], agreements: Sequence[Agreement]
) -> None:
    from harness.report.agreement import agreement_notes, agreement_table, where_they_differ
    from harness.report.answer import NO_DIFFERENCE, what_was_asked
    from harness.report.compare import describe
    from harness.report.table import Row, figures_table
    from harness.report.text import lines

    console = answers()
    rows = [Row(run, one.summary.run_id) for one in kept for run in one.summary.runs]
    console.print(figures_table(rows, console.width))
    console.print()
    for one in kept:
        console.print(what_was_asked(one))
    for comparison in comparisons:
        console.print(lines(*describe(kept[0].summary.run_id, comparison)))
    console.print(NO_DIFFERENCE)
    console.print()
    console.print(agreement_table(agreements))
    console.print()
    for said in (where_they_differ(agreements), agreement_notes(agreements)):
        if said:
            console.print(said)
