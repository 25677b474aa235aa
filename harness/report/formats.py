"""The four forms of an answer: a table, JSON and CSV for programs, Markdown for pages.

People share them: none names a home folder, which tells whose it is.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import UnionType
from typing import Any, Union, get_args, get_origin

from rich.console import Group, RenderableType
from rich.text import Text

from harness.machine.homes import without_homes
from harness.record import Record
from harness.report.chart import Drawing
from harness.report.markdown import escape, markdown_table
from harness.report.table import FiguresTable, Listing, Sheet
from harness.report.text import Verbatim, escaped, plain

JSON_VERSION = 1
"""Of every JSON object that a command prints; a key that is renamed or removed raises it."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command answers.

    `parts` is what people read; `data` is the object of JSON, without its version; `records` are
    the rows of CSV, of one kind, so that they have the same columns. `columns` are their names,
    for where there may be no row. `in_short` is what `parts` begin with, if they can be long: their
    end is what a terminal shows. `is_verbatim`: what was prompted and replied is in it, which JSON
    and CSV have whole and as it was.
    """

    parts: RenderableType
    data: Mapping[str, Any]
    records: Sequence[Mapping[str, Any]]
    columns: Collection[str] = ()
    in_short: RenderableType | None = None
    is_verbatim: bool = False


def as_json(answer: Answer) -> str:
    data = {"schema_version": JSON_VERSION, **answer.data}
    if not answer.is_verbatim:
        data = without_homes(data)
    return json.dumps(data, indent=2) + "\n"


def as_csv(answer: Answer) -> str:
    """A line of names, and one for each record; a value that there is not is empty."""
    text, records, cell = io.StringIO(), answer.records, csv_cell
    if not answer.is_verbatim:
        records, cell = without_homes(records), _cell
    names = dict.fromkeys([*answer.columns, *(name for record in records for name in record)])
    # csv's own line end is CRLF.
    writer = csv.DictWriter(text, list(names), lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: cell(value) for name, value in one.items()} for one in records)
    return text.getvalue()


def csv_cell(value: object) -> object:
    """A text keeps its lines, and no character of it drives a terminal."""
    return escaped(value, stays="\n\t") if isinstance(value, str) else value


def _cell(value: object) -> object:
    """Booleans as JSON writes them, and untrusted text without what drives a terminal."""
    if isinstance(value, bool):
        return json.dumps(value)
    return plain(value) if isinstance(value, str) else value


def as_markdown(answer: Answer) -> str:
    return "\n".join(_markdown(answer.parts))


def _markdown(part: RenderableType) -> Iterator[str]:
    """Blocks, each with the line feed that ends it."""
    match part:
        case Group():
            for one in part.renderables:
                yield from _markdown(one)
        # Markdown has no width that the table would have to fit.
        case FiguresTable():
            yield from _markdown(part.wide)
            if part.legend:
                yield from _markdown(part.legend)
        case Listing():
            yield markdown_table(part.sheet)
        case Sheet():
            yield markdown_table(part)
        case Drawing():
            yield f"```\n{part.draw(_PAGE_COLUMNS, False)}\n```\n"
        case Verbatim():
            text = part.__rich__().plain
            # A fence is longer than any that stands in the text.
            fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
            yield f"{fence}\n{text}\n{fence}\n"
        case Text():
            yield from (f"{escape(line)}\n" for line in part.plain.split("\n") if line)
        case "":
            return
        case _:
            raise TypeError(f"no Markdown for {type(part).__name__}")


_PAGE_COLUMNS = 100


def flat(kind: type[Record], record: Record | None, prefix: str = "") -> dict[str, Any]:
    """The numbers, texts and booleans of a record by their paths, such as `speed.wall_seconds`.

    The paths are those of the record's kind: a part that is `None` has all of its own, empty.
    Lists and tables are left out.
    """
    found: dict[str, Any] = {}
    for name, field in kind.model_fields.items():
        # `None` has no attributes: the columns of a missing part are there, and empty.
        value = getattr(record, name, None)
        part = _record_in(field.annotation)
        if part is not None:
            found |= flat(part, value, f"{prefix}{name}.")
        # By the type, not by the value: all rows of a CSV need the same columns.
        elif not any(get_origin(one) in (list, dict, tuple) for one in _either(field.annotation)):
            found[prefix + name] = value
    return found


def _record_in(annotation: Any) -> type[Record] | None:
    records = (
        one for one in _either(annotation) if isinstance(one, type) and issubclass(one, Record)
    )
    return next(records, None)


def _either(annotation: Any) -> tuple[Any, ...]:
    """The members of a union; what is no union is its only member."""
    return get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
