"""`harness compare`: several runs in one table, how they differ, and whether engines agree."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from harness.cli.console import answers, tell
from harness.cli.kept import choose, open_store
from harness.cli.options import RESULTS, JsonOption, ResultsOption
from harness.errors import UsageError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from harness.comparison.records import Compared
    from harness.comparison.sides import Side
    from harness.imports.records import ImportRow
    from harness.report.answer import Kept
    from harness.store.store import Store
    from harness.summary import RunSummary

RunsArgument: TypeAlias = Annotated[
    list[str],
    typer.Argument(
        metavar="RUN",
        help='Ids, beginnings of ids, or "latest"; with :BACKEND that backend alone, and '
        '"latest:BACKEND" is the newest finished run that has it. Imports go by their ids.',
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

    One run over several backends will do: its first backend is what the others are compared with.
    """
    from harness.comparison.compare import compare as compare_sides

    if json and output is not Format.TABLE:
        raise UsageError("--json and --output cannot go together", remedy="Give one of them.")
    with open_store(results) as store:
        named = _named(store, runs, results)
        compared = compare_sides([kept.summary for kept in named.kept], _read(store, named))
    if json:
        typer.echo(compared.model_dump_json())
    elif output is not Format.TABLE:
        _write(compared, output)
    else:
        _print(named, compared, flips)


@dataclass(frozen=True, slots=True)
class _Named:
    """What was named: the sides in order, each once, and the runs that they are of."""

    sides: Sequence[tuple[Kept, RunSummary] | ImportRow]

    @property
    def kept(self) -> list[Kept]:
        runs = (side[0] for side in self.sides if isinstance(side, tuple))
        return list({kept.summary.run_id: kept for kept in runs}.values())


def _named(store: Store, wanted: Sequence[str], results: Path) -> _Named:
    """Raises `UsageError` where there is nothing to compare with."""
    from harness.imports.records import PREFIX

    sides: dict[tuple[str, str], tuple[Kept, RunSummary] | ImportRow] = {}
    for name in wanted:
        if name.startswith(PREFIX):
            row = store.imported(name)
            sides.setdefault((row.import_id, ""), row)
            continue
        kept, backends = choose(store, name, results)
        for run in kept.summary.runs:
            if run.backend in backends:
                sides.setdefault((kept.summary.run_id, run.backend), (kept, run))
    if len(sides) < 2:
        raise UsageError(
            "a comparison takes two runs or more, or one over several backends",
            remedy="`harness list` shows which there are.",
        )
    return _Named(tuple(sides.values()))


def _read(store: Store, named: _Named) -> list[Side | ImportRow]:
    from harness.comparison.sides import read_side

    return [
        read_side(store, side[0].summary, side[1], side[0].spec)
        if isinstance(side, tuple)
        else side
        for side in named.sides
    ]


def _write(compared: Compared, output: Format) -> None:
    """What stands in the way of comparing has no column in a CSV: it is told beside."""
    from harness.report.compare import as_csv, as_markdown, warnings

    if output is Format.CSV:
        typer.echo(as_csv(compared), nl=False)
        for one in compared.against_first:
            for said in warnings(one):
                tell(said)
    else:
        typer.echo(as_markdown(compared), nl=False)


def _print(named: _Named, compared: Compared, flips: bool) -> None:
    from rich.console import Group

    from harness.report.compare import flip_parts

    console = answers()
    parts = [*_figures(named, console.width), *_differences(named, compared)]
    if flips:
        parts += [*flip_parts(compared.against_first), ""]
    parts += _agreements(compared)
    console.print(Group(*parts))


def _figures(named: _Named, width: int) -> Iterator[RenderableType]:
    """The table of `harness run`, and what other tools have measured."""
    from harness.report.imports import imports_table
    from harness.report.table import Row, figures_table

    rows = [Row(side[1], side[0].summary.run_id) for side in named.sides if isinstance(side, tuple)]
    if rows:
        yield from (figures_table(rows, width), "")
    if imports := [side for side in named.sides if not isinstance(side, tuple)]:
        yield from (imports_table(imports), "")


def _differences(named: _Named, compared: Compared) -> Iterator[RenderableType]:
    from harness.report.answer import what_was_asked
    from harness.report.compare import about, difference_table, loud_warnings

    yield from map(what_was_asked, named.kept)
    if warned := loud_warnings(compared.against_first):
        yield warned
    yield from ("", difference_table(compared), about(compared), "")


def _agreements(compared: Compared) -> Iterator[RenderableType]:
    from harness.report.agreement import agreement_notes, agreement_table, where_they_differ

    every = compared.agreements
    if every:
        said = agreement_table(every), where_they_differ(every), agreement_notes(every)
        yield from filter(None, said)
