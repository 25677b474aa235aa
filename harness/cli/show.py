"""`harness show`: a stored run, a group of runs, or an import, shown again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from harness.cli.console import answers, give
from harness.cli.options import RESULTS, JsonOption, ResultsOption
from harness.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.store.runs import StoredRun
    from harness.summary import Summary

RunArgument: TypeAlias = Annotated[
    str,
    typer.Argument(
        metavar="RUN",
        help='An id, a beginning of one, "latest", the name of a group, or an import.',
    ),
]


def show(
    run: RunArgument,
    recompute: Annotated[
        bool,
        typer.Option("--recompute", help="Compute the summary again from what is stored."),
    ] = False,
    results: ResultsOption = RESULTS,
    json: JsonOption = False,
) -> None:
    """Print the table of a stored run, the runs of a group, or the figures of an import.

    --recompute needs neither model nor data, and stores nothing.
    """
    from harness.imports.records import PREFIX, import_json
    from harness.report.imports import import_details
    from harness.store.runs import Results

    with Results(results) as stored:
        is_import = run.startswith(PREFIX)
        is_group = not is_import and stored.is_group(run)
        if recompute and (is_import or is_group):
            raise UsageError("--recompute takes one run", remedy="`harness list` shows them.")
        if is_import:
            row = stored.imported(run)
            give(import_json(row), import_details(row), json)
        elif is_group:
            _show_group(run, stored.group(run), json)
        elif recompute:
            from harness.pipeline.summarise import recompute as compute

            found = stored.run(run)
            show_run(found, compute(found), json)
        else:
            found = stored.run(run)
            show_run(found, found.summary, json)


def show_run(run: StoredRun, summary: Summary, as_json: bool) -> None:
    """The answer on stdout, its caveats included, and whether its entries agree."""
    from harness.comparison.compare import agreements
    from harness.report.answer import answer
    from harness.report.words import presented

    if as_json:
        typer.echo(presented(summary).model_dump_json())
        return
    entries = list(run.entries.values())
    console = answers()
    found = agreements(entries) if len(entries) > 1 else []
    console.print(answer(run.spec, summary, console.width, found))


def _show_group(name: str, runs: Sequence[StoredRun], as_json: bool) -> None:
    """As JSON, what `show --json` prints of each finished run, as one list."""
    from harness.report.group import Point, group_table
    from harness.report.words import presented

    finished = [presented(run.summary) for run in runs if run.is_finished]
    points = [Point(run.run_id, run.spec, run.summary if run.is_finished else None) for run in runs]
    give([one.model_dump(mode="json") for one in finished], group_table(name, points), as_json)
