"""Tables as GitHub writes them, of untrusted text."""

from __future__ import annotations

import html
import re

from rich.text import Text

from harness.machine.homes import without_home
from harness.report.table import Sheet
from harness.report.text import plain

# What GitHub reads as markup: ~ strikes through, $ begins a formula, | ends a cell.
_SPECIAL = re.compile(r"([\\`*_\[\]|~$])")


def markdown_table(sheet: Sheet) -> str:
    titles = tuple(map(_cell, sheet.titles))
    # A colon on the right sets a column to the right.
    rules = ("---:" if title in sheet.numbers else "---" for title in sheet.titles)
    rows = (tuple(map(_cell, row)) for row in sheet.rows)
    return "".join(f"| {' | '.join(line)} |\n" for line in (titles, tuple(rules), *rows))


def _cell(cell: str | Text) -> str:
    text = cell if isinstance(cell, str) else cell.plain
    # A cell is one line; GitHub breaks it where this tag stands.
    return "<br>".join(map(escape, text.split("\n")))


def escape(text: str) -> str:
    """Text of a model file or an engine, safe in a cell of a Markdown table."""
    return _SPECIAL.sub(r"\\\1", html.escape(plain(without_home(text)), quote=False))
