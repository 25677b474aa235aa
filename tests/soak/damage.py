"""Damages one field of a store, as a fault of the disk or another program might.

A field is a column of a row, or a place within the JSON that a column holds. What is planted is
drawn from a seed, so that a case can be made again from its name.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, TypeAlias

Steps: TypeAlias = tuple[str | int, ...]

CAST_TO_TEXT = b"as text:"  # bytes that SQLite takes for a text
MISSING = object()

TABLES = (
    "runs",
    "entries",
    "sessions",
    "prompts",
    "prompt_tokens",
    "prompt_texts",
    "prompt_ids",
    "batches",
    "cells",
    "baselines",
    "imports",
)


def _cut(value: object) -> object:
    return value[: len(value) // 2] if isinstance(value, str | bytes) else value


def _text(value: object) -> str:
    return value if isinstance(value, str) else str(value)


IN_COLUMNS: Mapping[str, Callable[[Any], object]] = {
    "null": lambda _: None,
    "another type": lambda value: 7 if isinstance(value, str | bytes) else "seven",
    "cut": _cut,
    "invalid JSON": lambda value: _text(value) + "}",
    "invalid UTF-8": lambda value: CAST_TO_TEXT + b"\xff\xfe{" + _text(value).encode(),
    "blob": lambda value: _text(value).encode(),
    "empty": lambda _: "",
    "huge": lambda _: 2**62,
    "beyond": lambda _: 1e308,
    "infinite": lambda _: float("inf"),
    "negative": lambda _: -3,
    "fraction": lambda _: 0.5,
    "another word": lambda _: "unheard_of",
    "zeros": lambda value: b"\0" * len(value) if isinstance(value, bytes) else "\0" * 8,
}

IN_JSON: Mapping[str, Callable[[Any], object]] = {
    "null": lambda _: None,
    "another type": lambda value: 7 if isinstance(value, str | list | dict) else "seven",
    "missing": lambda _: MISSING,
    "empty": lambda value: type(value)() if isinstance(value, str | list | dict) else "",
    "shorter": lambda value: value[:-1] if isinstance(value, str | list) else 0,
    "longer": lambda value: [*value, *value[-1:]] if isinstance(value, list) else f"{value}0",
    "huge": lambda _: 10**30,
    "beyond": lambda _: 1e308,
    "infinite": lambda _: float("inf"),
    "not a number": lambda _: float("nan"),
    "negative": lambda _: -3,
    "fraction": lambda _: 0.5,
    "another word": lambda _: "unheard_of",
    "half a character": lambda _: "\ud800",
}


@dataclass(frozen=True, slots=True)
class Damage:
    """`steps` leads into the JSON of the column; the row is drawn from those of `run_id`."""

    table: str
    column: str
    steps: Steps
    kind: str

    def __str__(self) -> str:
        place = ".".join(map(str, (self.table, self.column, *self.steps)))
        return f"{place}: {self.kind}"


def damages(path: Path, run_id: str) -> list[Damage]:
    """Every damage that this can do to a run, and to imports."""
    found = []
    with closing(sqlite3.connect(path)) as raw:
        for table in TABLES:
            rows = _rows(raw, table, run_id)
            for column in rows[0] if rows else ():
                found += [Damage(table, column, (), kind) for kind in IN_COLUMNS]
                value = next((row[column] for row in rows if row[column] is not None), None)
                if isinstance(value, str) and value[:1] in "{[":
                    for steps in _places(json.loads(value), ()):
                        found += [Damage(table, column, steps, kind) for kind in IN_JSON]
    return found


def plant(path: Path, run_id: str, damage: Damage, seed: int = 0) -> bool:
    """Whether it changed anything: a key cannot be NULL, and not each value can be cut."""
    with closing(sqlite3.connect(path, isolation_level=None)) as raw:
        raw.execute("PRAGMA ignore_check_constraints = ON")
        raw.execute("PRAGMA writable_schema = ON")
        raw.execute(
            "UPDATE sqlite_master SET sql = replace(sql, 'NOT NULL', '') WHERE type = 'table' "
            "AND sql NOT LIKE '%WITHOUT ROWID%'"
        )
        raw.execute("PRAGMA writable_schema = RESET")
        rows = _rows(raw, damage.table, run_id)
        filled = [row for row in rows if row[damage.column] is not None]
        row = Random(seed).choice(filled or rows)
        before = row[damage.column]
        after = _changed(before, damage)
        if _same(before, after):
            return False
        value, cast = after, "?"
        if isinstance(after, bytes) and after.startswith(CAST_TO_TEXT):
            value, cast = after.removeprefix(CAST_TO_TEXT), "CAST(? AS TEXT)"
        keys = [key for key in row if key != damage.column or len(row) == 1]
        where = " AND ".join(f'"{key}" IS ?' for key in keys)
        try:
            done = raw.execute(
                f'UPDATE {damage.table} SET "{damage.column}" = {cast} WHERE {where}',
                (value, *(row[key] for key in keys)),
            )
        except sqlite3.IntegrityError:
            return False
        return done.rowcount > 0


def _changed(before: Any, damage: Damage) -> object:
    if not damage.steps:
        return IN_COLUMNS[damage.kind](before)
    record = json.loads(before)
    *way, last = damage.steps
    try:
        parent = record
        for step in way:
            parent = parent[step]
        planted = IN_JSON[damage.kind](parent[last])
    except (LookupError, TypeError):  # this row's record has no such place
        return before
    if planted is MISSING:
        del parent[last]
    else:
        parent[last] = planted
    return json.dumps(record)


def _same(before: object, after: object) -> bool:
    return type(before) is type(after) and before == after


def _rows(raw: sqlite3.Connection, table: str, run_id: str) -> list[dict[str, Any]]:
    raw.row_factory = sqlite3.Row
    of_run = {
        "prompt_tokens": "prompt_id IN (SELECT id FROM prompts WHERE run_id = ?)",
        "cells": "prompt_id IN (SELECT id FROM prompts WHERE run_id = ?)",
        "batches": "session_id IN (SELECT id FROM sessions WHERE run_id = ?)",
        "imports": "? IS NOT NULL",
    }.get(table, "run_id = ?")
    return [dict(row) for row in raw.execute(f"SELECT * FROM {table} WHERE {of_run}", (run_id,))]


def _places(record: object, steps: Steps) -> Iterator[Steps]:
    """Each place in a record, but of a list only its first item's."""
    items: list[tuple[str | int, object]] = []
    if isinstance(record, dict):
        items = list(record.items())
    elif isinstance(record, list):
        items = list(enumerate(record[:1]))
    for step, value in items:
        yield (*steps, step)
        yield from _places(value, (*steps, step))
