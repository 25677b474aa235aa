"""Tables as GitHub writes them, of untrusted text."""

from __future__ import annotations

import html
import re
from collections.abc import Collection, Iterable, Sequence

from harness.report.text import plain

_SPECIAL = re.compile(r"([\\`*_\[\]|~$])")


def markdown_table(
    titles: Sequence[str],
    rows: Iterable[Sequence[str]],
    numbers: Collection[str] = (),
    notes: Iterable[str] = (),
) -> str:
    """Columns whose titles are among `numbers` are set to the right; notes are paragraphs below."""
    rules = ("---:" if title in numbers else "---" for title in titles)
    written = [tuple(map(plain, titles)), tuple(rules), *(tuple(map(_escape, row)) for row in rows)]
    table = "".join(f"| {' | '.join(line)} |\n" for line in written)
    return table + "".join(f"\n{_escape(note)}\n" for note in notes)


def _escape(text: str) -> str:
    """Text of a model file or an engine, safe in a cell of a Markdown table."""
    return _SPECIAL.sub(r"\\\1", html.escape(plain(text), quote=False))
