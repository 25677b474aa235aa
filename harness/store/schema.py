"""What is kept, as tables, and the rows as the rest of the program sees them.

One file holds any number of runs. A run asks its prompts of one or more backends; a cell is one
prompt on one backend. A session is one worker: a crash or a resume opens another. Texts that come
from a model are data: they go in as bound parameters and come out as they were, but for lone
surrogates, which UTF-8 cannot hold and which are kept as `?`. Imports, the results of other tools,
stand beside the runs and belong to none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Dialect,
    Enum,
    Float,
    ForeignKey,
    Integer,
    MetaData,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
)

from backends.api import Reply, SessionInfo

SCHEMA_VERSION = 3
"""Kept in `PRAGMA user_version`; to be raised with any change to the tables."""

COMPLETED_VERSIONS = frozenset({0, 2})
"""Files of these versions lack whole tables and nothing else: 0 is empty, 2 has no imports."""

Role: TypeAlias = Literal["query", "calibration"]
Status: TypeAlias = Literal["done", "failed"]


@dataclass(frozen=True, slots=True)
class RunRow:
    """`created` is ISO-8601 in UTC; `spec`, `environment` and `summary` are JSON.

    `summary` is null until the run is finished.
    """

    run_id: str
    created: str
    spec: str
    environment: str
    summary: str | None


@dataclass(frozen=True, slots=True)
class SessionUse:
    """What a session has used so far."""

    wall_seconds: float | None = None
    peak_rss_mib: float | None = None
    peak_gpu_mib: float | None = None


@dataclass(frozen=True, slots=True)
class SessionRow:
    id: int
    run_id: str
    backend: str
    started: str
    info: SessionInfo
    model_sha256: str | None
    load_seconds: float
    use: SessionUse


@dataclass(frozen=True, slots=True)
class PromptRow:
    """One prompt of a run. `row` is the place of its embedding in the dataset.

    `position` counts the prompts of one voter and role. It shows so many `examples`. The store
    gives the `id`; it is 0 before.
    """

    voter: int
    role: Role
    position: int
    row: int
    label: int
    examples: int
    text_sha256: str
    id: int = 0


@dataclass(frozen=True, slots=True)
class TokensRow:
    """The token ids of one prompt, as one backend was asked them."""

    token_sha256: str
    n_tokens: int


@dataclass(frozen=True, slots=True)
class BatchRow:
    """The engine's own clock for one batch, as in `backends.api.Batch`."""

    id: int
    session_id: int
    engine_seconds: float
    prefill_tokens: int
    prefill_seconds: float
    decode_tokens: int
    decode_seconds: float


@dataclass(frozen=True, slots=True)
class CellRow:
    """One prompt on one backend: `reply` if it is done, `reason` if it failed.

    `reply.prompt` is `prompt_id`. `batch_id` is null for a failed cell, `session_id` for one that
    failed with no session open.
    """

    prompt_id: int
    status: Status
    session_id: int | None
    batch_id: int | None
    reason: str | None
    reply: Reply | None


class UnicodeText(TypeDecorator[str]):
    """Text of any origin: each lone surrogate is kept as `?`."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, _dialect: Dialect) -> str | None:
        return None if value is None else value.encode(errors="replace").decode()


def _required(name: str, kind: Any, *more: Any) -> Column[Any]:
    return Column(name, kind, *more, nullable=False)


METADATA = MetaData()

RUNS = Table(
    "runs",
    METADATA,
    Column("run_id", Text, primary_key=True),
    _required("created", Text),
    _required("spec", UnicodeText),
    _required("environment", UnicodeText),
    Column("summary", UnicodeText),
)

SESSIONS = Table(
    "sessions",
    METADATA,
    Column("id", Integer, primary_key=True),
    _required("run_id", Text, ForeignKey("runs.run_id")),
    _required("backend", Text),
    _required("started", Text),
    _required("info", JSON),
    Column("model_sha256", Text),
    _required("load_seconds", Float),
    Column("wall_seconds", Float),
    Column("peak_rss_mib", Float),
    Column("peak_gpu_mib", Float),
)

PROMPTS = Table(
    "prompts",
    METADATA,
    Column("id", Integer, primary_key=True),
    _required("run_id", Text, ForeignKey("runs.run_id")),
    _required("voter", Integer),
    _required("role", Enum("query", "calibration", name="role", create_constraint=True)),
    _required("position", Integer),
    _required("row", Integer),
    _required("label", Integer),
    _required("examples", Integer),
    _required("text_sha256", Text),
    UniqueConstraint("run_id", "voter", "role", "position"),
)

PROMPT_TOKENS = Table(
    "prompt_tokens",
    METADATA,
    Column("prompt_id", Integer, ForeignKey("prompts.id"), primary_key=True),
    Column("backend", Text, primary_key=True),
    _required("token_sha256", Text),
    _required("n_tokens", Integer),
)

BATCHES = Table(
    "batches",
    METADATA,
    Column("id", Integer, primary_key=True),
    _required("session_id", Integer, ForeignKey("sessions.id")),
    _required("engine_seconds", Float),
    _required("prefill_tokens", Integer),
    _required("prefill_seconds", Float),
    _required("decode_tokens", Integer),
    _required("decode_seconds", Float),
)

CELLS = Table(
    "cells",
    METADATA,
    Column("prompt_id", Integer, ForeignKey("prompts.id"), primary_key=True),
    Column("backend", Text, primary_key=True),
    _required("status", Enum("done", "failed", name="status", create_constraint=True)),
    Column("session_id", Integer, ForeignKey("sessions.id")),
    Column("batch_id", Integer, ForeignKey("batches.id")),
    Column("reason", UnicodeText),
    Column("finish", Text),
    Column("prompt_tokens", Integer),
    Column("cached_tokens", Integer),
    Column("text", UnicodeText),
    Column("token_ids", JSON(none_as_null=True)),
    Column("label_logprobs", JSON(none_as_null=True)),
    Column("time_to_first_token_ms", Float),
    Column("time_per_output_token_ms", Float),
)

IMPORTS = Table(
    "imports",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("import_id", Text, nullable=False, unique=True),
    _required("created", Text),
    _required("name", UnicodeText),
    _required("file_name", UnicodeText),
    _required("file_sha256", Text),
    _required("tool", Text),
    _required("tool_version", UnicodeText),
    _required("engine", UnicodeText),
    _required("model", UnicodeText),
    _required("test", UnicodeText),
    _required("figures", JSON),
    _required("conditions", JSON),
    _required("is_mock", Boolean),
)
