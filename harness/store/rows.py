"""Rows as they come from the file: each value is taken as what it has to be, or refused by name.

A file can be damaged, or changed by another program, so nothing in it is believed: SQLite stores a
text in a column of numbers, a number that is none, or bytes that are no text.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields
from functools import cache
from math import inf
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, Field, TypeAdapter, ValidationError
from sqlalchemy import Column, Row, Select, Table, Text, select, type_coerce

from harness.contract import (
    LOGPROB_ROUNDING,
    Capabilities,
    Finish,
    Reply,
    SessionInfo,
    records,
    wire,
)
from harness.imports.records import Imported, ImportRow
from harness.imports.vllm_bench import as_of_now
from harness.store.schema import (
    BATCHES,
    CELLS,
    RUNS,
    SESSIONS,
    Amount,
    BatchRow,
    CellRow,
    Count,
    Moment,
    RunRow,
    SessionRow,
    SessionUse,
    Status,
    Words,
)
from harness.summary import Baseline

LONG_AGO = "1970-01-01T00:00:00+00:00"
"""The date of a run whose date cannot be read."""

Kind = TypeVar("Kind")
_JSON = BeforeValidator(lambda text: None if text is None else json.loads(text))


class DamagedError(ValueError):
    """A value that is not what its column holds: the message names both."""


def raw(table: Table, *names: str) -> Select[Any]:
    """Selects these columns, or all, as they are in the file: whatever type SQLite has stored."""
    columns = [table.c[name] for name in names] if names else list(table.c)
    return select(*map(as_stored, columns))


def as_stored(column: Column[Any]) -> Any:
    # By their own types, SQLAlchemy would convert values, and fail where one is of another kind.
    return type_coerce(column, Text()).label(column.name)


def read_row(kind: type[Kind], table: Table, row: Row[Any]) -> Kind:
    """The record of a row. Raises `DamagedError`, as all of these do."""
    record: Kind = _read(kind, table.name, row._asdict())
    return record


def read_count(count: object, where: str) -> int:
    found: int = _read(Count, where, count)
    return found


def read_blob(content: object) -> bytes:
    # Strict: pydantic would make bytes of a text.
    blob: bytes = _read(bytes, "its prompts", content, strict=True)
    return blob


def read_baseline(record: object) -> Baseline:
    """Raises `DamagedError` where the record is none, pydantic's `ValidationError` where it is
    damaged."""
    text: str = _read(Words, "baselines.record", record)
    return Baseline.model_validate_json(text)


def read_run(row: Row[Any]) -> RunRow:
    """The row of a run; it holds what can be read where not all of it can."""
    values = row._asdict()
    try:
        return read_row(RunRow, RUNS, row)
    except DamagedError as error:
        return RunRow(
            # For tables: bytes that are no text came as lone surrogates.
            run_id=str(values["run_id"]).encode(errors="replace").decode(),
            created=_or(LONG_AGO, Moment, values["created"]),
            records_version=0,
            group=_or(None, Words, values["group"]),
            data_sha256=None,
            spec="",
            environment="",
            facts=None,
            summary=None,
            name=_or(None, Words, values["name"]),
            damage=str(error),
        )


def read_session(row: Row[Any]) -> SessionRow:
    values = row._asdict()
    use = {field.name: values.pop(field.name) for field in fields(SessionUse)}
    info = _info(values.pop("info"))
    checked = _read(SessionUse, SESSIONS.name, use)
    return SessionRow(**_checked(_SessionColumns, SESSIONS, values), info=info, use=checked)


def read_batch(row: Row[Any]) -> BatchRow:
    batch = read_row(BatchRow, BATCHES, row)
    if batch.ended < batch.began:
        raise DamagedError(f"batches.ended: {batch.ended} is before batches.began")
    return batch


def read_cell(row: Row[Any]) -> CellRow:
    values = row._asdict()
    of_cell = {name: values[name] for name in _CellColumns.model_fields}
    cell = _checked(_CellColumns, CELLS, of_cell)
    reply = None
    if cell["status"] == "done":
        of_reply = {name: values[name] for name in _ReplyColumns.model_fields}
        reply = Reply(prompt=cell["prompt_id"], **_checked(_ReplyColumns, CELLS, of_reply))
    return CellRow(**cell, reply=reply)


def read_import(row: Row[Any], columns: Iterable[str]) -> ImportRow:
    values = row._asdict()
    own = {name: values[name] for name in columns}
    reported = {name: values[name] for name in Imported.model_fields}
    try:
        for name in ("figures", "conditions"):
            reported[name] = json.loads(reported[name])
        for name, value in own.items():
            _read(Moment if name == "created" else Words, name, value)
        imported = as_of_now(Imported.model_validate(reported))
    except (ValidationError, ValueError, TypeError, RecursionError) as error:
        raise DamagedError(f"imports: {_first(error)}") from error
    return ImportRow(**own, imported=imported)


class _SessionColumns(BaseModel):
    """`SessionRow` without its parts."""

    id: Count
    run_id: Words
    entry: Words
    started: Moment
    model_sha256: Words | None
    load_seconds: Amount | None
    environment: Words | None


class _CellColumns(BaseModel):
    """`CellRow` without its reply."""

    prompt_id: Count
    attempt: Count
    status: Status
    session_id: Count | None
    batch_id: Count | None
    reason: Words | None


_Logarithm = Annotated[float, Field(strict=True, ge=-inf, le=LOGPROB_ROUNDING)]


class _ReplyColumns(BaseModel):
    """`Reply` without the prompt's number."""

    finish: Finish
    prompt_tokens: Count
    cached_tokens: Count | None
    text: Words
    token_ids: Annotated[tuple[Count, ...], _JSON]
    label_logprobs: Annotated[tuple[_Logarithm | None, ...] | None, _JSON]
    time_to_first_token_ms: Amount | None
    time_per_output_token_ms: Amount | None


def _info(stored: object) -> SessionInfo:
    """What a session was opened with. Older files lack fields: these are as if not stated."""
    try:
        info = json.loads(stored) if isinstance(stored, str) else stored
        if isinstance(info, dict) and isinstance(can := info.get("capabilities", {}), dict):
            info = {**_UNSTATED, **info, "capabilities": {**_UNSTATED["capabilities"], **can}}
        return records.decode_session_info(info)
    except (wire.WireError, ValueError, RecursionError) as error:
        raise DamagedError(f"sessions.info: {error}") from error


_UNSTATED: Mapping[str, Any] = {
    "shared_block_tokens": 1,
    "vocabulary_size": None,
    "bos_id": None,
    "bos_text": "",
    "eos_text": "",
    "chat_template": None,
    "rope_scaling": "",
    "is_mock": False,
    "findings": [],
    "capabilities": asdict(Capabilities()),
}


def _or(otherwise: Any, kind: Any, value: object) -> Any:
    try:
        return _read(kind, "", value)
    except DamagedError:
        return otherwise


def _checked(kind: type[BaseModel], table: Table, values: Mapping[str, Any]) -> dict[str, Any]:
    return dict(_read(kind, table.name, values))


def _read(kind: Any, where: str, value: object, strict: bool | None = None) -> Any:
    try:
        return _adapter(kind).validate_python(value, strict=strict)
    except (ValidationError, RecursionError) as error:
        raise DamagedError(f"{where}{'.' * bool(where)}{_first(error)}") from error


def _first(error: Exception) -> str:
    """What is wrong first, in short."""
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors()[0]
    place = ".".join(map(str, first["loc"]))
    return f"{place}: {first['msg']}" if place else first["msg"]


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)
