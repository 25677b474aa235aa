"""`harness compare`: several runs in one table, how they differ, and whether engines agree."""

from __future__ import annotations

from typing import Annotated, TypeAlias

import typer

from harness.cli.console import give, target, tell
from harness.cli.options import (
    RESULTS,
    RUN_HELP,
    Format,
    FormatOption,
    JsonOption,
    OutputOption,
    ResultsOption,
)

RunsArgument: TypeAlias = Annotated[
    list[str],
    typer.Argument(
        metavar="RUN",
        help=f"Each is {RUN_HELP}, or the id of an import. RUN:ENTRY is one entry of a run, or "
        'one of its baselines, and "latest:ENTRY" the newest finished run that has it. An entry is '
        "named after its backend, unless the config names it, and a baseline as `harness baseline` "
        "names it.",
    ),
]


def compare(
    runs: RunsArgument,
    flips: Annotated[
        bool, typer.Option("--flips", help="List the queries that became right or wrong.")
    ] = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="Say how the figures come about.")
    ] = False,
    results: ResultsOption = RESULTS,
    format_: FormatOption = None,
    json: JsonOption = False,
    output: OutputOption = None,
) -> None:
    """Compare runs, entries of one run, or baselines, with the first.

    Prints who is ahead in what, how they differ, with intervals, and whether engines agree. CSV has
    the differences.
    """
    from harness.comparison.compare import compare as compare_sides
    from harness.report.compare import compare_answer, warnings
    from harness.store.runs import Results, sides

    wanted = target(format_, json, output)
    with Results(results) as stored:
        found = sides(runs, stored)
        compared = compare_sides(found)
        give(compare_answer(found, compared, flips, explain), wanted)
    if wanted.format is Format.CSV:
        # what stands in the way of comparing has no column: it is said beside
        for said in (said for one in compared.against_first for said in warnings(one)):
            tell(said)
