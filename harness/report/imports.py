"""Imports: what other tools have measured, as tables and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from rich.console import Group

from harness.imports.records import Figure, ImportRow, import_json
from harness.report.figures import MOCK_LABEL
from harness.report.formats import Answer, flat
from harness.report.table import Sheet, simple_table
from harness.report.text import NOTHING, lines

_TITLES = ("import\nstored", "name: test\ntool, engine\nmodel", "figure")
_FIGURE_TITLES = ("metric", "value", "unit", "± stderr", "samples")
_NUMBERS = frozenset({"value", "± stderr", "samples"})


def imports_answer(rows: Sequence[ImportRow]) -> Answer:
    """A row an import; CSV has a row for each figure."""
    data = {"imports": list(map(import_json, rows))}
    return Answer(imports_table(rows), data, _records(rows))


def import_answer(row: ImportRow) -> Answer:
    """All figures of one import."""
    return Answer(import_details(row), import_json(row), _records([row]))


def _records(rows: Sequence[ImportRow]) -> list[dict[str, Any]]:
    return [
        {
            **{key: value for key, value in import_json(row).items() if isinstance(value, str)},
            **flat(Figure, figure),
        }
        for row in rows
        for figure in row.imported.figures
    ]


def imports_table(rows: Sequence[ImportRow]) -> Sheet:
    """A row an import, with the first of its figures."""
    return simple_table(_TITLES, map(_cells, rows))


def import_details(row: ImportRow) -> Group:
    """All figures of one import, and where they come from."""
    figures = simple_table(
        _FIGURE_TITLES, map(_figure_cells, row.imported.figures), numbers=_NUMBERS
    )
    return Group(figures, "", lines(*_origin(row)))


def _cells(row: ImportRow) -> list[str]:
    """Times are local ones."""
    stored = datetime.fromisoformat(row.created).astimezone()
    imported = row.imported
    first, *more = imported.figures
    counted = f", and {len(more)} more" if more else ""
    return [
        f"{row.import_id}\n{stored:%Y-%m-%d %H:%M}",
        f"{row.name}: {imported.test}\n{imported.tool}, {_engine(row)}\n"
        f"{imported.model or NOTHING}",
        f"{first.metric}\n{digits(first.value)}{counted}",
    ]


def _figure_cells(figure: Figure) -> list[str]:
    count = figure.count if figure.count is not None else len(figure.samples) or None
    return [
        figure.metric,
        digits(figure.value),
        figure.unit,
        NOTHING if figure.stderr is None else digits(figure.stderr),
        NOTHING if count is None else f"{count:,}",
    ]


def _origin(row: ImportRow) -> Iterator[str]:
    imported = row.imported
    yield f"Import {row.import_id}: {row.name}; {imported.test}"
    yield f"tool: {imported.tool} {imported.tool_version}".rstrip()
    yield f"engine: {_engine(row)}"
    yield f"model: {imported.model or NOTHING}"
    yield f"file: {row.file_name}, SHA-256 {row.file_sha256}"
    if imported.conditions:
        yield "; ".join(f"{name}: {value}" for name, value in imported.conditions.items())
    yield "note: Another tool measured this, in its own way; docs/IMPORT.md says what differs."


def _engine(row: ImportRow) -> str:
    mock = f" {MOCK_LABEL}" if row.imported.is_mock else ""
    return f"{row.imported.engine or NOTHING}{mock}"


def digits(value: float) -> str:
    """Four digits, or all before the point: 0.1234, 12.34, 12,345."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
