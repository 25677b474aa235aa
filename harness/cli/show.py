"""`harness show`: a stored run, a group of runs, or an import, shown again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from harness.cli.console import fail_if_unreadable, give, target, why_unreadable
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

    from harness.cli.console import Target
    from harness.report.formats import Answer
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
            give(answer_of(found, compute(found), wanted.format), wanted)
        else:
            found = stored.run(run)
            give(answer_of(found, _summary_of(found), wanted.format), wanted)


def _summary_of(run: StoredRun) -> Summary:
    """Of an unfinished run what it has come to so far."""
    if run.is_finished:
        return run.summary
    from harness.pipeline.summarise import so_far

    return so_far(run)


def answer_of(run: StoredRun, summary: Summary, format_: Format) -> Answer:
    """The answer, its caveats included, who of its entries is ahead, and whether they agree."""
    from harness.report.answer import Beside, run_answer

    # CSV has no place for what takes a comparison.
    return run_answer(run.spec, summary, Beside.of(run, is_compared=format_ is not Format.CSV))


def _show_group(name: str, runs: Sequence[StoredRun], wanted: Target) -> None:
    """One run that cannot be read must not hide the others."""
    from harness.report.group import Point, group_answer

    unreadable = {run.run_id: error for run in runs if (error := why_unreadable(run))}
    points = [
        Point(run.run_id, run.spec, run.environment, run.summary if run.is_finished else None)
        for run in runs
        if run.run_id not in unreadable
    ]
    if points:
        give(group_answer(name, points), wanted)
    fail_if_unreadable(list(unreadable.values()))
