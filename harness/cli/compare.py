"""`harness compare`: the rows of several runs in one table."""

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
    from harness.report.compare import Comparison
    from harness.store.store import Store

RunsArgument: TypeAlias = Annotated[
    list[str], typer.Argument(metavar="RUN RUN...", help='Ids, beginnings of ids, or "latest".')
]


def compare(runs: RunsArgument, results: ResultsOption = RESULTS, json: JsonOption = False) -> None:
    """Print several runs as one table, and whether they were asked the same prompts."""
    from harness.report.compare import Compared

    with open_store(results) as store:
        kept = _read(store, runs, results)
        comparisons = [_compare(store, kept[0], other) for other in kept[1:]]
    if json:
        summaries = [one.summary for one in kept]
        typer.echo(Compared(runs=summaries, against_first=comparisons).model_dump_json())
    else:
        _print(kept, comparisons)


def _read(store: Store, runs: Sequence[str], results: Path) -> list[Kept]:
    rows = {row.run_id: row for row in map(store.run, runs)}
    if len(rows) < 2:
        raise UsageError(
            "a comparison takes two runs or more, each named once",
            remedy="`harness list` shows which there are.",
        )
    return [read_kept(row, results) for row in rows.values()]


def _compare(store: Store, first: Kept, other: Kept) -> Comparison:
    from harness.report.compare import compare

    asked = [store.prompts(kept.summary.run_id) for kept in (first, other)]
    return compare(first, other, *asked)


def _print(kept: Sequence[Kept], comparisons: Sequence[Comparison]) -> None:
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
