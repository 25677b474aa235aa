"""Tables: of anything, and of the figures of a run."""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import Literal

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from harness.report.figures import MOCK_LABEL, BaselineRow, Figure, Row, figures_of
from harness.report.text import lines, plain
from harness.summary import is_mock

_LOUD = "bold reverse"
_BEST = "bold green"
_MARK = " *"
_LEGEND = "* better than every other entry, as the comparison of each pair shows."
_TITLE = 14
_BETWEEN = 2  # columns of the terminal
_ENDLESS = 10_000  # columns, wider than any table


@dataclass(frozen=True, slots=True)
class Sheet:
    """A table of untrusted text, for a terminal and for Markdown.

    A line feed in a cell stays, and no text is left out. A cell may be a `Text` with a style. Where
    a word would be broken, titles take more lines.
    Columns whose titles are among `numbers` are set to the right. `columns` are the most that each
    column is wide, `None` for as wide as it is. Cells of columns whose titles are among `whole` are
    not broken, so that they can be copied.
    """

    titles: Sequence[str | Text]
    rows: Sequence[Sequence[str | Text]]
    numbers: Collection[str] = ()
    columns: Sequence[int | None] = ()
    whole: Collection[str] = ()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        table = self._table(self.titles)
        lines_ = console.render_lines(table, options)
        shown = "\n".join("".join(part.text for part in line) for line in lines_)
        cells = chain(self.titles, *self.rows)
        words = chain.from_iterable(_text(cell).plain.split() for cell in cells)
        yield table if all(word in shown for word in words) else self._table(self._narrow_titles())

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement.get(console, options, self._table(self.titles))

    def _narrow_titles(self) -> Iterator[str | Text]:
        """No wider than the cells below them, as far as no word has to be broken."""
        for place, title in enumerate(self.titles):
            if isinstance(title, Text):
                yield title
                continue
            cells = (line for row in self.rows for line in _text(row[place]).plain.split("\n"))
            widest = max(map(cell_len, (*cells, *title.split())), default=1)
            parts = (
                textwrap.wrap(part, widest, break_on_hyphens=False) for part in title.split("\n")
            )
            yield "\n".join(chain.from_iterable(parts))

    def _table(self, titles: Iterable[str | Text]) -> Table:
        table = Table(
            box=box.SIMPLE_HEAD,
            padding=(0, 1, 0, 0),
            show_edge=False,
            pad_edge=False,
            header_style="bold",
        )
        for title, shown, columns in zip_longest(self.titles, titles, self.columns):
            side: Literal["left", "right"] = "right" if title in self.numbers else "left"
            # rich's default cuts a long cell and writes an ellipsis; folded, it stays whole.
            table.add_column(
                _text(shown),
                overflow="fold",
                justify=side,
                max_width=columns,
                no_wrap=title in self.whole,
            )
        for row in self.rows:
            table.add_row(*map(_text, row))
        return table


def simple_table(
    titles: Iterable[str],
    rows: Iterable[Sequence[str]],
    numbers: Collection[str] = (),
    whole: Collection[str] = (),
) -> Sheet:
    return Sheet(tuple(titles), tuple(rows), numbers, whole=whole)


@dataclass(frozen=True, slots=True)
class Listing:
    """A table whose last column is for lines to copy, such as paths and commands: none is broken,
    however long it is. Other columns have one line a cell.

    Columns whose titles are among `numbers` are set to the right.
    """

    titles: Sequence[str]
    rows: Sequence[Sequence[str]]
    numbers: Collection[str] = ()

    # Not `__rich__`: what that returns may be joined with other texts, which are broken.
    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        del console, options
        rows = [self.titles, *self.rows]
        widths = [max(map(cell_len, map(plain, column))) for column in zip(*rows, strict=True)]
        text = Text(no_wrap=True, overflow="ignore")
        for number, row in enumerate(rows):
            *cells, last = row
            first = "  ".join(map(self._set, self.titles, map(plain, cells), widths))
            before = first + "  " if cells else ""
            for i, line in enumerate(str(lines(*last.split("\n"))).split("\n")):
                whole = (before if i == 0 else " " * cell_len(before)) + line
                text.append(whole.rstrip() + "\n", "bold" if number == 0 else "")
        text.right_crop(1)
        yield text

    @property
    def sheet(self) -> Sheet:
        return Sheet(self.titles, self.rows, self.numbers)

    def _set(self, title: str, cell: str, width: int) -> str:
        space = " " * (width - cell_len(cell))
        return space + cell if title in self.numbers else cell + space


@dataclass(frozen=True, slots=True)
class FiguresTable:
    """All figures of all rows: a row an entry where that fits the terminal, else a column; and
    below one another where so many columns do not fit."""

    rows: Sequence[Row | BaselineRow]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        del console
        if _measured(self.wide).maximum <= options.max_width:
            yield self.wide
        else:
            yield from self._narrow_within(options.max_width)
        if self.legend:
            yield self.legend

    @property
    def legend(self) -> Text | None:
        """What the mark means, where there is one."""
        return lines(_LEGEND) if any(row.ahead for row in self.rows) else None

    @property
    def wide(self) -> Sheet:
        figures = figures_of(self.rows)
        rows: list[list[str | Text]] = [
            [_name(row), *(_cell(figure, row, "\n") for figure in figures)] for row in self.rows
        ]
        titles = ("entry", *("\n".join(figure.title) for figure in figures))
        return Sheet(titles, rows, columns=(None, *(figure.columns for figure in figures)))

    def _narrow_within(self, width: int) -> Iterator[Sheet | Text]:
        """As many columns beside one another as fit without breaking a word."""
        left = list(self.rows)
        while left:
            fitting = (n for n in range(len(left), 1, -1) if _fits(self._narrow(left[:n]), width))
            count = next(fitting, 1)
            if len(left) < len(self.rows):
                yield Text()
            yield self._narrow(left[:count])
            left = left[count:]

    def _narrow(self, columns: Sequence[Row | BaselineRow]) -> Sheet:
        apart = " " if len(columns) == 1 else "\n"
        rows = [
            (" ".join(figure.title), *(_cell(figure, row, apart) for row in columns))
            for figure in figures_of(self.rows)
        ]
        titles = [_name(row) for row in columns]
        return Sheet(("", *titles), rows, columns=(None if len(columns) == 1 else _TITLE,))


def _fits(sheet: Sheet, width: int) -> bool:
    """Whether no word of the columns behind the titles has to be broken: rich leaves the column of
    the titles as it is, as it is the narrowest."""
    titles = Sheet(sheet.titles[:1], [row[:1] for row in sheet.rows], columns=sheet.columns)
    columns = Sheet(sheet.titles[1:], [row[1:] for row in sheet.rows])
    return _measured(titles).maximum + _BETWEEN + _measured(columns).minimum <= width


def _measured(sheet: Sheet) -> Measurement:
    # rich never measures more than its console is wide: in the real one everything would fit.
    return Console(width=_ENDLESS).measure(sheet)


def _cell(figure: Figure, row: Row | BaselineRow, apart: str) -> str | Text:
    """The figure of a row, marked where it is better than all others."""
    value, *more = figure.of(row)
    if figure.name not in row.ahead:
        return apart.join([value, *more])
    # A mark too, and not the colour alone: it is still there where the table is copied.
    marked = lines(value + _MARK)
    marked.stylize(_BEST)
    for part in more:
        marked.append(apart).append_text(lines(part))
    return marked


def _text(cell: str | Text) -> Text:
    return lines(*cell.split("\n")) if isinstance(cell, str) else cell


def _name(row: Row | BaselineRow) -> Text:
    """The entry, what tells it from others, and loudly if it is a mock or cells failed."""
    if isinstance(row, BaselineRow):
        return lines(row.name, *filter(None, row.note.split("\n")))
    name = lines(row.run.entry, *filter(None, row.note.split("\n")))
    if is_mock(row.run):
        name.append("\n").append(MOCK_LABEL, style=_LOUD)
    if failed := row.run.cells.failed:
        name.append("\n").append(f"{failed:,} cells failed", style=_LOUD)
    return name
