"""The table: a row an entry where that fits the terminal, else a column an entry."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Literal

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.report.figures import MOCK_LABEL, Row, figures_of
from harness.report.text import lines
from harness.summary import is_mock

_LOUD = "bold reverse"
_TITLE = 14
_ENDLESS = 10_000


def simple_table(
    titles: Iterable[str], rows: Iterable[Sequence[str]], numbers: Collection[str] = ()
) -> Table:
    """A table of untrusted text; a line feed in a cell stays, and no text is left out.

    Columns whose titles are among `numbers` are set to the right.
    """
    table = _empty_table()
    for title in titles:
        side: Literal["left", "right"] = "right" if title in numbers else "left"
        table.add_column(title, overflow="fold", justify=side)
    for row in rows:
        table.add_row(*(lines(*cell.split("\n")) for cell in row))
    return table


def figures_table(rows: Sequence[Row], width: int) -> Table:
    """All figures of all rows, for a terminal of so many columns."""
    wide = _wide(rows)
    return wide if Console(width=_ENDLESS).measure(wide).maximum <= width else _narrow(rows)


def _wide(rows: Sequence[Row]) -> Table:
    figures = figures_of(rows)
    table = _empty_table()
    table.add_column("entry")
    for figure in figures:
        table.add_column("\n".join(figure.title), max_width=figure.columns)
    for row in rows:
        table.add_row(_name(row), *(lines(*figure.cell(row)) for figure in figures))
    return table


def _narrow(rows: Sequence[Row]) -> Table:
    figures = figures_of(rows)
    table = _empty_table()
    table.add_column("", max_width=None if len(rows) == 1 else _TITLE)
    for row in rows:
        table.add_column(_name(row), overflow="fold")
    for figure in figures:
        cells = [figure.cell(row) for row in rows]
        texts = [lines(" ".join(cell)) if len(rows) == 1 else lines(*cell) for cell in cells]
        table.add_row(" ".join(figure.title), *texts)
    return table


def _name(row: Row) -> Text:
    """The entry, what tells it from others, and loudly if it is a mock or cells failed."""
    name = lines(row.run.entry, *filter(None, [row.note]))
    if is_mock(row.run):
        name.append("\n").append(MOCK_LABEL, style=_LOUD)
    if failed := row.run.cells.failed:
        name.append("\n").append(f"{failed:,} cells failed", style=_LOUD)
    return name


def _empty_table() -> Table:
    return Table(
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        show_edge=False,
        pad_edge=False,
        header_style="bold",
    )
