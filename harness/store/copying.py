"""Runs from one store to another, row by row. The numbers that rows refer to each other by are
given again, because the other store has rows of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, TypeAlias

from sqlalchemy import Connection, Select, Table, func, select

from harness.store.rows import DamagedError, raw
from harness.store.schema import (
    BASELINES,
    BATCHES,
    CELLS,
    ENTRIES,
    PROCESSOR_USE,
    PROMPT_IDS,
    PROMPT_TEXTS,
    PROMPT_TOKENS,
    PROMPTS,
    RUN_NAMES,
    RUNS,
    SESSIONS,
)

Change: TypeAlias = Callable[[str, str, Any], Any]
"""What becomes of a value, by the names of its table and its column."""

_ROWS_AT_ONCE = 1000
_REFERENCES = {"prompt_id": "prompts", "session_id": "sessions", "batch_id": "batches"}


def as_it_is(table: str, column: str, value: Any) -> Any:
    del table, column
    return value


def copy_runs(
    source: Connection,
    target: Connection,
    run_ids: Sequence[str],
    name: str | None,
    group: str | None,
    change: Change,
) -> None:
    """In one transaction of the caller, under another name or group where one is given. Only what
    belongs to these runs and their entries is copied, whatever else a file has."""
    for run_id in run_ids:
        shifts: dict[str, int] = {}
        for table, rows in _parts(run_id):
            if "id" in table.c:
                shifts[table.name] = _shift(source, target, table, rows)
            found = source.execute(rows.execution_options(yield_per=_ROWS_AT_ONCE))
            values: Iterator[dict[str, Any]] = (
                {
                    column: _shifted(table.name, column, change(table.name, column, value), shifts)
                    for column, value in row._asdict().items()
                }
                for row in found
            )
            if table is RUNS and group is not None:
                values = (one | {"group": group} for one in values)
            elif table is RUN_NAMES and name is not None:
                values = iter([{"run_id": run_id, "name": name}])
            _insert(target, table, values)


def _parts(run_id: str) -> Iterator[tuple[Table, Select[Any]]]:
    """The rows of each table, those that others refer to first."""
    names = select(ENTRIES.c.name).where(ENTRIES.c.run_id == run_id)
    vocabularies = select(ENTRIES.c.vocabulary).where(ENTRIES.c.run_id == run_id)
    prompts = select(PROMPTS.c.id).where(PROMPTS.c.run_id == run_id)
    own_sessions = (SESSIONS.c.run_id == run_id) & SESSIONS.c.entry.in_(names)
    sessions = select(SESSIONS.c.id).where(own_sessions)
    yield RUNS, raw(RUNS).where(RUNS.c.run_id == run_id)
    yield RUN_NAMES, raw(RUN_NAMES).where(RUN_NAMES.c.run_id == run_id)
    yield ENTRIES, raw(ENTRIES).where(ENTRIES.c.run_id == run_id)
    yield SESSIONS, raw(SESSIONS).where(own_sessions).order_by(SESSIONS.c.id)
    yield PROCESSOR_USE, raw(PROCESSOR_USE).where(PROCESSOR_USE.c.session_id.in_(sessions))
    yield PROMPTS, raw(PROMPTS).where(PROMPTS.c.run_id == run_id).order_by(PROMPTS.c.id)
    of_prompts = PROMPT_TOKENS.c.prompt_id.in_(prompts)
    in_use = PROMPT_TOKENS.c.vocabulary.in_(vocabularies)
    yield PROMPT_TOKENS, raw(PROMPT_TOKENS).where(of_prompts & in_use)
    yield PROMPT_TEXTS, raw(PROMPT_TEXTS).where(PROMPT_TEXTS.c.run_id == run_id)
    of_run = (PROMPT_IDS.c.run_id == run_id) & PROMPT_IDS.c.vocabulary.in_(vocabularies)
    yield PROMPT_IDS, raw(PROMPT_IDS).where(of_run)
    yield BATCHES, raw(BATCHES).where(BATCHES.c.session_id.in_(sessions)).order_by(BATCHES.c.id)
    yield CELLS, raw(CELLS).where(CELLS.c.prompt_id.in_(prompts) & CELLS.c.entry.in_(names))
    yield BASELINES, raw(BASELINES).where(BASELINES.c.run_id == run_id)


def _shift(source: Connection, target: Connection, table: Table, rows: Select[Any]) -> int:
    """What is added to the ids of a table: the first of these rows follows the last there is."""
    own = rows.subquery()
    first, kind = source.execute(select(func.min(own.c.id), func.max(func.typeof(own.c.id)))).one()
    if first is None:
        return 0
    if kind != "integer":
        raise DamagedError(f"{table.name}.id: not a number")
    last = target.execute(select(func.max(table.c.id))).scalar_one()
    return (last or 0) + 1 - int(first)


def _shifted(table: str, column: str, value: Any, shifts: Mapping[str, int]) -> Any:
    of_table = table if column == "id" else _REFERENCES.get(column)
    if of_table is None or value is None:
        return value
    return value + shifts[of_table]


def _insert(target: Connection, table: Table, values: Iterator[dict[str, Any]]) -> None:
    # As text: by their types, columns of JSON would be made JSON once more. All names are those of
    # our own tables: nothing of the archive is in the statement.
    names = ", ".join(f'"{column.name}"' for column in table.c)
    marks = ", ".join("?" for _ in table.c)
    statement = f'INSERT INTO "{table.name}" ({names}) VALUES ({marks})'  # noqa: S608
    columns = [column.name for column in table.c]
    while chunk := list(islice(values, _ROWS_AT_ONCE)):
        rows = [tuple(one[name] for name in columns) for one in chunk]
        target.exec_driver_sql(statement, rows)
