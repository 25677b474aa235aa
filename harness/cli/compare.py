"""`harness compare`: several runs in one table, how they differ, and whether engines agree."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from harness.cli.console import answers, tell
from harness.cli.options import RESULTS, JsonOption, ResultsOption
from harness.errors import UsageError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from harness.comparison.records import Compared
    from harness.store.runs import Side

RunsArgument: TypeAlias = Annotated[
    list[str],
    typer.Argument(
        metavar="RUN",
        help='Ids, beginnings of ids, or "latest"; with :ENTRY that entry alone, and '
        '"latest:ENTRY" is the newest finished run that has it. An entry is named after its '
        "backend, unless the config names it. Imports go by their ids.",
    ),
]


class Format(StrEnum):
    TABLE = "table"
    CSV = "csv"
    MD = "md"


def compare(
    runs: RunsArgument,
    flips: Annotated[
        bool, typer.Option("--flips", help="List the queries whose verdict became right or wrong.")
    ] = False,
    output: Annotated[
        Format, typer.Option("--output", "-o", help="csv and md hold the differences.")
    ] = Format.TABLE,
    results: ResultsOption = RESULTS,
    json: JsonOption = False,
) -> None:
    """Print how runs differ from the first one, with intervals, and whether engines agree.

    One run of several entries will do: its first entry is what the others are compared with.
    """
    from rich.console import Group

    from harness.comparison.compare import compare as compare_sides
    from harness.report.compare import as_csv, as_markdown, warnings
    from harness.store.runs import Results, sides

    if json and output is not Format.TABLE:
        raise UsageError("--json and --output cannot go together", remedy="Give one of them.")
    with Results(results) as stored:
        found = sides(runs, stored)
        compared = compare_sides(found)
        console = answers()
        if json:
            from harness.report.words import presented_comparison

            typer.echo(presented_comparison(compared).model_dump_json())
        elif output is Format.MD:
            typer.echo(as_markdown(compared), nl=False)
        elif output is Format.CSV:
            typer.echo(as_csv(compared), nl=False)
            # what stands in the way of comparing has no column: it is said beside
            for said in (said for one in compared.against_first for said in warnings(one)):
                tell(said)
        else:
            console.print(Group(*_parts(found, compared, flips, console.width)))


def _parts(
    found: Sequence[Side], compared: Compared, flips: bool, width: int
) -> Iterator[RenderableType]:
    """The table of `harness run`, what other tools have measured, the differences, agreement."""
    from harness.imports.records import ImportRow
    from harness.report.agreement import agreement_notes, agreement_table, where_they_differ
    from harness.report.answer import what_was_asked
    from harness.report.compare import about, difference_table, flip_parts, loud_warnings
    from harness.report.figures import Row
    from harness.report.imports import imports_table
    from harness.report.table import figures_table

    entries = [side for side in found if not isinstance(side, ImportRow)]
    imports = [side for side in found if isinstance(side, ImportRow)]
    if entries:
        rows = [Row(one.summary, one.run.summary.baselines, one.run.run_id) for one in entries]
        yield from (figures_table(rows, width), "")
    if imports:
        yield from (imports_table(imports), "")
    for run in {entry.run.run_id: entry.run for entry in entries}.values():
        yield what_was_asked(run.spec, run.summary)
    if warned := loud_warnings(compared.against_first):
        yield warned
    yield from ("", difference_table(compared), about(compared), "")
    if flips:
        yield from (*flip_parts(compared.against_first), "")
    if every := compared.agreements:
        said = agreement_table(every), where_they_differ(every), agreement_notes(every)
        yield from filter(None, said)
