"""`harness show`: a stored run, a group of runs, or an import, shown again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from harness.cli.console import Target, give, target
from harness.cli.options import (
    RESULTS,
    RUN_HELP,
    Format,
    FormatOption,
    JsonOption,
    OutputOption,
    ResultsOption,
)
from harness.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.store.runs import StoredRun
    from harness.summary import Summary

RunArgument: TypeAlias = Annotated[
    str,
    typer.Argument(
        metavar="RUN",
        help=f"It is {RUN_HELP}, the name of a group, or the id of an import.",
    ),
]


def show(
    run: RunArgument,
    recompute: Annotated[
        bool,
        typer.Option("--recompute", help="Compute the summary again from what is stored."),
    ] = False,
    results: ResultsOption = RESULTS,
    format_: FormatOption = None,
    json: JsonOption = False,
    output: OutputOption = None,
) -> None:
    """Show a stored run, a group of runs, or an import.

    --recompute needs neither model nor data, and stores nothing.
    """
    from harness.imports.records import PREFIX
    from harness.report.imports import import_answer
    from harness.store.runs import Results

    wanted = target(format_, json, output)
    with Results(results) as stored:
        is_import = run.startswith(PREFIX)
        is_group = not is_import and stored.is_group(run)
        if recompute and (is_import or is_group):
            raise UsageError("--recompute takes one run", remedy="`harness list` shows them.")
        if is_import:
            give(import_answer(stored.imported(run)), wanted)
        elif is_group:
            _show_group(run, stored.group(run), wanted)
        elif recompute:
            from harness.pipeline.summarise import recompute as compute

            found = stored.run(run)
            show_run(found, compute(found), wanted)
        else:
            found = stored.run(run)
            show_run(found, found.summary, wanted)


def show_run(run: StoredRun, summary: Summary, wanted: Target) -> None:
    """The answer, its caveats included, and whether its entries agree."""
    from harness.comparison.compare import agreements
    from harness.report.answer import run_answer

    entries = list(run.entries.values())
    is_read = wanted.format in (Format.TABLE, Format.MD)  # the other formats have no place for it
    found = agreements(entries) if len(entries) > 1 and is_read else []
    give(run_answer(run.spec, summary, found), wanted)


def _show_group(name: str, runs: Sequence[StoredRun], wanted: Target) -> None:
    from harness.report.group import Point, group_answer

    points = [Point(run.run_id, run.spec, run.summary if run.is_finished else None) for run in runs]
    give(group_answer(name, points), wanted)
