"""What is stored, as tables, and the rows as the rest of the program sees them.

One file holds any number of runs. A run has entries (a backend with its model and options, under a
name), which are given the same prompts as texts; their token ids are stored once for each
vocabulary. A cell is one attempt at one prompt of one entry. A session is one worker: a crash or a
resume opens another. Texts that come from a model are data: they go in as bound parameters and come
out as they were, but for lone surrogates, which UTF-8 cannot hold and which are stored as `?`.
Imports, the results of other tools, stand beside the runs and belong to none.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import AfterValidator, Field
from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Dialect,
    Enum,
    Float,
    ForeignKey,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
)

from harness.contract import Reply, SessionInfo

SCHEMA_VERSION = 7
"""Of the tables, in `PRAGMA user_version`. Older files are upgraded when they are opened
(`harness.store.upgrade`)."""

RECORDS_VERSION = 5
"""Of the JSON records of a run (spec, environment, facts, summary), stored with each run. Older
ones are upgraded when they are read (`harness.store.upgrade`)."""

Role: TypeAlias = Literal["query", "calibration", "shuffled"]
Status: TypeAlias = Literal["done", "failed", "not_needed"]


def _whole(text: str) -> str:
    """A text that is stored is UTF-8: half of a surrogate pair stands for bytes that are not."""
    text.encode()
    return text


def _iso(text: str) -> str:
    try:
        # Tables show local time, which moments at the ends of the calendar do not have.
        datetime.fromisoformat(text).astimezone()
    except OverflowError as error:
        raise ValueError(str(error)) from error
    return text


# What the values of a row have to be, which is checked as they are read (`harness.store.rows`).
# Strict, because pydantic would take the text "12" for the number.
Words: TypeAlias = Annotated[str, Field(strict=True), AfterValidator(_whole)]
Moment: TypeAlias = Annotated[str, Field(strict=True), AfterValidator(_whole), AfterValidator(_iso)]
Count: TypeAlias = Annotated[int, Field(strict=True, ge=0)]
MOST = 1e100
"""Sums and ratios of what is not larger are finite still, and so is every figure made of it."""
Clock: TypeAlias = Annotated[float, Field(strict=True, ge=-MOST, le=MOST)]  # may begin below 0
Amount: TypeAlias = Annotated[float, Field(strict=True, ge=0, le=MOST)]


@dataclass(frozen=True, slots=True)
class RunRow:
    """`created` is ISO-8601 in UTC; `spec`, `environment`, `facts` and `summary` are JSON.

    `records_version` is that of these four. `facts` is `None` until the prompts are stored,
    `summary` until the run is finished. `name` is the user's for it, if any.
    `group` is `None` for a run that stands alone. `data_sha256` is the identity of the data, `None`
    in runs stored before it was. `damage` says of a row that cannot be read why; what could not be
    read of it is empty.
    """

    run_id: Words
    created: Moment
    records_version: Count
    group: Words | None
    data_sha256: Words | None
    spec: Words
    environment: Words
    facts: Words | None
    summary: Words | None
    name: Words | None = None
    damage: str | None = None


@dataclass(frozen=True, slots=True)
class EntryRow:
    """One entry of a run. `vocabulary` is the hash of the tokens that it is given, `None` where
    they are not known: its tokenizer could not be opened, or the run was ended before."""

    name: Words
    backend: Words
    model: Words
    vocabulary: Words | None


@dataclass(frozen=True, slots=True)
class SessionUse:
    """What a session has used so far.

    `other_cpu_seconds` of the `all_cpu_seconds` of the processors went to other processes while it
    was prompted (`harness.machine.processors`).
    """

    wall_seconds: Amount | None = None
    peak_rss_mib: Amount | None = None
    peak_gpu_mib: Amount | None = None
    other_cpu_seconds: Amount | None = None
    all_cpu_seconds: Amount | None = None


@dataclass(frozen=True, slots=True)
class SessionRow:
    """`load_seconds` is `None` where the engine was open already, over the runs of a group.

    `environment` is JSON, `None` where it is the run's.
    """

    id: Count
    run_id: Words
    entry: Words
    started: Moment
    info: SessionInfo
    model_sha256: Words | None
    load_seconds: Amount | None
    environment: Words | None
    use: SessionUse


@dataclass(frozen=True, slots=True)
class PromptRow:
    """One prompt of a run. `row` is the place of its item in its split of the data.

    `position` counts the prompts of one voter and role. It shows so many `examples`. The store
    gives the `id`; it is 0 before.
    """

    voter: Count
    role: Role
    position: Count
    row: Count
    label: Count
    examples: Count
    text_sha256: Words
    id: Count = 0


@dataclass(frozen=True, slots=True)
class TokensRow:
    """The token ids of one prompt in one vocabulary."""

    token_sha256: Words
    n_tokens: Count


@dataclass(frozen=True, slots=True)
class BatchRow:
    """The clock of one batch, as in `backends.api.Batch`."""

    id: Count
    session_id: Count
    began: Clock
    ended: Clock
    prefill_tokens: Count | None
    prefill_seconds: Amount | None
    decode_tokens: Count | None
    decode_seconds: Amount | None


@dataclass(frozen=True, slots=True)
class CellRow:
    """One attempt at one prompt of one entry: `reply` if it is done, `reason` if it failed.

    One that is not needed has neither, and is left alone by `--resume`. `reply.prompt` is
    `prompt_id`. `batch_id` is `None` for a cell without a reply, `session_id` for one that failed
    with no session open.
    """

    prompt_id: Count
    attempt: Count
    status: Status
    session_id: Count | None
    batch_id: Count | None
    reason: Words | None
    reply: Reply | None


class UnicodeText(TypeDecorator[str]):
    """Text of any origin: each lone surrogate is stored as `?`."""

    impl = Text
    cache_ok = True  # without parameters; else SQLAlchemy compiles each statement again

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
    _required("records_version", Integer),
    Column("group", UnicodeText),
    Column("data_sha256", Text),
    _required("spec", UnicodeText),
    _required("environment", UnicodeText),
    Column("facts", UnicodeText),
    Column("summary", UnicodeText),
)

# A table of its own: a file of an earlier version needs no more than it.
RUN_NAMES = Table(
    "run_names",
    METADATA,
    Column("run_id", Text, ForeignKey("runs.run_id"), primary_key=True),
    Column("name", Text, nullable=False, unique=True),
)

ENTRIES = Table(
    "entries",
    METADATA,
    Column("run_id", Text, ForeignKey("runs.run_id"), primary_key=True),
    Column("name", Text, primary_key=True),
    _required("position", Integer),
    _required("backend", Text),
    _required("model", UnicodeText),
    Column("vocabulary", Text),
)

SESSIONS = Table(
    "sessions",
    METADATA,
    Column("id", Integer, primary_key=True),
    _required("run_id", Text, ForeignKey("runs.run_id")),
    _required("entry", Text),
    _required("started", Text),
    _required("info", JSON),
    Column("model_sha256", Text),
    Column("load_seconds", Float),
    Column("environment", UnicodeText),
    Column("wall_seconds", Float),
    Column("peak_rss_mib", Float),
    Column("peak_gpu_mib", Float),
)

# A table of its own: a file of version 4 needs no more than it.
PROCESSOR_USE = Table(
    "processor_use",
    METADATA,
    Column("session_id", Integer, ForeignKey("sessions.id"), primary_key=True),
    Column("other_cpu_seconds", Float),
    Column("all_cpu_seconds", Float),
)

PROMPTS = Table(
    "prompts",
    METADATA,
    Column("id", Integer, primary_key=True),
    _required("run_id", Text, ForeignKey("runs.run_id")),
    _required("voter", Integer),
    # SQLite has no enumerations: without the constraint, any text would do.
    _required(
        "role", Enum("query", "calibration", "shuffled", name="role", create_constraint=True)
    ),
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
    Column("vocabulary", Text, primary_key=True),
    _required("token_sha256", Text),
    _required("n_tokens", Integer),
    sqlite_with_rowid=False,  # the key is most of a row, and is stored once so
)

# Of each voter the beginning that its prompts share, and of each prompt the rest, compressed
# (`harness.store.prompts`).
PROMPT_TEXTS = Table(
    "prompt_texts",
    METADATA,
    Column("run_id", Text, ForeignKey("runs.run_id"), primary_key=True),
    Column("voter", Integer, primary_key=True),
    _required("content", LargeBinary),
)

PROMPT_IDS = Table(
    "prompt_ids",
    METADATA,
    Column("run_id", Text, ForeignKey("runs.run_id"), primary_key=True),
    Column("voter", Integer, primary_key=True),
    Column("vocabulary", Text, primary_key=True),
    _required("content", LargeBinary),
)

BATCHES = Table(
    "batches",
    METADATA,
    Column("id", Integer, primary_key=True),
    _required("session_id", Integer, ForeignKey("sessions.id")),
    _required("began", Float),
    _required("ended", Float),
    Column("prefill_tokens", Integer),
    Column("prefill_seconds", Float),
    Column("decode_tokens", Integer),
    Column("decode_seconds", Float),
)

CELLS = Table(
    "cells",
    METADATA,
    Column("prompt_id", Integer, ForeignKey("prompts.id"), primary_key=True),
    Column("entry", Text, primary_key=True),
    Column("attempt", Integer, primary_key=True),
    _required(
        "status", Enum("done", "failed", "not_needed", name="status", create_constraint=True)
    ),
    Column("session_id", Integer, ForeignKey("sessions.id")),
    Column("batch_id", Integer, ForeignKey("batches.id")),
    Column("reason", UnicodeText),
    Column("finish", Text),
    Column("prompt_tokens", Integer),
    Column("cached_tokens", Integer),
    Column("text", UnicodeText),
    # SQL's NULL for `None`. By default, it would be the JSON text `null`.
    Column("token_ids", JSON(none_as_null=True)),
    Column("label_logprobs", JSON(none_as_null=True)),
    Column("time_to_first_token_ms", Float),
    Column("time_per_output_token_ms", Float),
)

BASELINES = Table(
    "baselines",
    METADATA,
    Column("run_id", Text, ForeignKey("runs.run_id"), primary_key=True),
    Column("name", Text, primary_key=True),
    _required("position", Integer),
    _required("record", UnicodeText),
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
