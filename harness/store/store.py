"""The results of a folder: one SQLite file that several processes may write at the same time.

Every method that writes is one transaction. The journal is a write-ahead log with
`synchronous = NORMAL`: what was committed outlives the death of the process, kill -9 included; a
power cut may cost the last transactions but leaves the file whole. The log needs shared memory,
so all processes have to be on one machine (https://sqlite.org/wal.html). A connection that finds
the file locked waits for up to `BUSY_SECONDS`.
"""

from __future__ import annotations

import difflib
import secrets
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, fields
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sqlalchemy import (
    URL,
    Connection,
    Engine,
    Row,
    Select,
    Table,
    create_engine,
    event,
    insert,
    select,
)
from sqlalchemy import update as update_table
from sqlalchemy.dialects.sqlite import Insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.exc import DBAPIError

from backends.api import Batch, Reply, SessionInfo
from harness.errors import StoreError
from harness.imports.records import PREFIX, Imported, ImportFile, ImportRow
from harness.store.schema import (
    BATCHES,
    CELLS,
    COMPLETED_VERSIONS,
    IMPORTS,
    METADATA,
    PROMPT_TOKENS,
    PROMPTS,
    RUNS,
    SCHEMA_VERSION,
    SESSIONS,
    BatchRow,
    CellRow,
    PromptRow,
    RunRow,
    SessionRow,
    SessionUse,
    TokensRow,
)

FILE_NAME = "harness.sqlite"
LATEST = "latest"
BUSY_SECONDS = 30.0
NEAR_RUNS = 5

_DAMAGED = "Move the file away (a new one is made), or restore a copy of it."
_UNWRITABLE = "Give a results folder that you may write to."
_REMEDIES = {
    sqlite3.SQLITE_NOTADB: _DAMAGED,
    sqlite3.SQLITE_CORRUPT: _DAMAGED,
    sqlite3.SQLITE_READONLY: _UNWRITABLE,
    sqlite3.SQLITE_CANTOPEN: _UNWRITABLE,
    sqlite3.SQLITE_PERM: _UNWRITABLE,
    sqlite3.SQLITE_FULL: "Make room on the disk.",
    sqlite3.SQLITE_IOERR: "Check the disk; the folder has to be on this machine, not on a network.",
    sqlite3.SQLITE_BUSY: "Another process holds the file; wait for it or end it.",
}
_PROMPT_COLUMNS = tuple(field.name for field in fields(PromptRow) if field.name != "id")
_CLOCK_COLUMNS = tuple(field.name for field in fields(Batch) if field.name != "replies")
_REPLY_COLUMNS = tuple(field.name for field in fields(Reply) if field.name != "prompt")
_IMPORT_COLUMNS = tuple(field.name for field in fields(ImportRow) if field.name != "imported")
_HASH_DIGITS = 10
_USE_COLUMNS = tuple(field.name for field in fields(SessionUse))


class Store:
    """All runs of one results folder, which is made if it is not there. Raises `StoreError`."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE_NAME
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(
                f"the results folder {folder} could not be made: {error.strerror}",
                remedy=_UNWRITABLE,
            ) from error
        self._engine = _engine(self.path)
        try:
            self._prepare()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self._engine.dispose()

    def create_run(self, spec_json: str, environment_json: str) -> str:
        """Begins a run and returns its id, such as `20261123-142003-7f3a` (UTC)."""
        now = datetime.now(UTC)
        values = {
            "created": now.isoformat(),
            "spec": spec_json,
            "environment": environment_json,
        }
        with self._write() as connection:
            while True:
                run_id = f"{now:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
                new = sqlite_insert(RUNS).values(run_id=run_id, **values).on_conflict_do_nothing()
                if connection.execute(new).rowcount:
                    return run_id

    def finish_run(self, run_id: str, summary_json: str) -> None:
        """Keeps the summary; a resumed run replaces it."""
        with self._write() as connection:
            connection.execute(
                update_table(RUNS).where(RUNS.c.run_id == run_id).values(summary=summary_json)
            )

    def run(self, wanted: str) -> RunRow:
        """The run of this id, of a prefix that only one run has, or of the word "latest"."""
        with self._read() as connection:
            newest_first = select(RUNS.c.run_id).order_by(RUNS.c.created.desc())
            run_id = _match(self.path, wanted, connection.scalars(newest_first).all())
            row = connection.execute(select(RUNS).where(RUNS.c.run_id == run_id)).one()
        return RunRow(**row._asdict())

    def runs(self) -> list[RunRow]:
        """Every run, the newest first."""
        with self._read() as connection:
            rows = connection.execute(select(RUNS).order_by(RUNS.c.created.desc()))
            return [RunRow(**row._asdict()) for row in rows]

    def save_prompts(
        self,
        run_id: str,
        prompts: Sequence[PromptRow],
        tokens: Mapping[str, Sequence[TokensRow]],
    ) -> None:
        """Keeps the prompts of a run, and their tokens for each backend in the same order.

        `prompts` and `prompt_tokens` give them back.
        """
        values = [{"run_id": run_id, **_values(prompt, _PROMPT_COLUMNS)} for prompt in prompts]
        with self._write() as connection:
            _insert_all(connection, insert(PROMPTS), values)
            ids = connection.scalars(_prompt_ids(run_id)).all()
            asked = [
                {"prompt_id": prompt_id, "backend": backend, **asdict(row)}
                for backend, rows in tokens.items()
                for prompt_id, row in zip(ids, rows, strict=True)
            ]
            _insert_all(connection, insert(PROMPT_TOKENS), asked)

    def prompts(self, run_id: str) -> list[PromptRow]:
        """The prompts of a run, in the order in which they were saved."""
        columns = [PROMPTS.c[field.name] for field in fields(PromptRow)]
        wanted = select(*columns).where(PROMPTS.c.run_id == run_id).order_by(PROMPTS.c.id)
        with self._read() as connection:
            return [PromptRow(**row._asdict()) for row in connection.execute(wanted)]

    def prompt_tokens(self, run_id: str, backend: str) -> list[TokensRow]:
        """The tokens of a run's prompts as a backend was asked them, in the same order."""
        wanted = (
            select(PROMPT_TOKENS.c.token_sha256, PROMPT_TOKENS.c.n_tokens)
            .join(PROMPTS)
            .where(PROMPTS.c.run_id == run_id, PROMPT_TOKENS.c.backend == backend)
            .order_by(PROMPTS.c.id)
        )
        with self._read() as connection:
            return [TokensRow(**row._asdict()) for row in connection.execute(wanted)]

    def open_session(
        self,
        run_id: str,
        backend: str,
        info: SessionInfo,
        load_seconds: float,
        model_sha256: str | None = None,
    ) -> int:
        """Keeps that a worker was opened, and returns the session's id."""
        values = {
            "run_id": run_id,
            "backend": backend,
            "started": datetime.now(UTC).isoformat(),
            "info": asdict(info),
            "load_seconds": load_seconds,
            "model_sha256": model_sha256,
        }
        with self._write() as connection:
            return _insert_one(connection, SESSIONS, values)

    def close_session(self, session_id: int, use: SessionUse) -> None:
        """Keeps what the session used in all."""
        with self._write() as connection:
            _update_use(connection, session_id, use)

    def sessions(self, run_id: str, backend: str) -> list[SessionRow]:
        """The sessions of a run on one backend, the oldest first."""
        wanted = select(SESSIONS).where(SESSIONS.c.run_id == run_id, SESSIONS.c.backend == backend)
        with self._read() as connection:
            return [_session(row) for row in connection.execute(wanted.order_by(SESSIONS.c.id))]

    def save_batch(
        self, session_id: int, batch: Batch, prompt_ids: Mapping[int, int], use: SessionUse
    ) -> None:
        """Keeps a batch, its replies as cells that are done, and the session's use so far.

        `prompt_ids` maps `Reply.prompt` to `PromptRow.id`. A cell that failed is replaced, one
        that is done already is not.
        """
        clock = {"session_id": session_id, **_values(batch, _CLOCK_COLUMNS)}
        with self._write() as connection:
            batch_id = _insert_one(connection, BATCHES, clock)
            of_session = select(SESSIONS.c.backend).where(SESSIONS.c.id == session_id)
            done = {
                "backend": connection.scalars(of_session).one(),
                "status": "done",
                "session_id": session_id,
                "batch_id": batch_id,
                "reason": None,
            }
            cells = [
                {"prompt_id": prompt_ids[reply.prompt], **done, **_values(reply, _REPLY_COLUMNS)}
                for reply in batch.replies
            ]
            _insert_all(connection, _upsert_cell(), cells)
            _update_use(connection, session_id, use)

    def save_failures(
        self, backend: str, failures: Mapping[int, str], session_id: int | None = None
    ) -> None:
        """Keeps why cells failed; `failures` maps `PromptRow.id` to the reason.

        Cells that are done stay as they are.
        """
        failed = {"backend": backend, "status": "failed", "session_id": session_id}
        cells = [
            {"prompt_id": prompt_id, **failed, "reason": reason}
            for prompt_id, reason in failures.items()
        ]
        with self._write() as connection:
            _insert_all(connection, _upsert_cell(), cells)

    def cells(self, run_id: str, backend: str) -> list[CellRow]:
        """The cells of a run on one backend, in the order of its prompts; open ones are missing."""
        wanted = (
            select(CELLS)
            .join(PROMPTS)
            .where(PROMPTS.c.run_id == run_id, CELLS.c.backend == backend)
            .order_by(PROMPTS.c.id)
        )
        with self._read() as connection:
            return [_cell(row) for row in connection.execute(wanted)]

    def batches(self, run_id: str, backend: str) -> list[BatchRow]:
        """The batches of a run on one backend, over all its sessions, in order."""
        wanted = (
            select(BATCHES)
            .join(SESSIONS)
            .where(SESSIONS.c.run_id == run_id, SESSIONS.c.backend == backend)
            .order_by(BATCHES.c.id)
        )
        with self._read() as connection:
            return [BatchRow(**row._asdict()) for row in connection.execute(wanted)]

    def save_imports(self, files: Sequence[ImportFile], name: str = "") -> list[ImportFile]:
        """Keeps the tests of all files, under the file's name where there is no other.

        Returns the files that were kept already, by their hash: nothing is added for these.
        """
        now, known = datetime.now(UTC).isoformat(), []
        with self._write() as connection:
            for file in files:
                same = select(IMPORTS.c.id).where(IMPORTS.c.file_sha256 == file.sha256)
                if connection.execute(same).first():
                    known.append(file)
                else:
                    rows = [{"created": now, **values} for values in _import_values(file, name)]
                    _insert_all(connection, insert(IMPORTS), rows)
        return known

    def imports(self) -> list[ImportRow]:
        """Every import, the newest first, those of one file in its order."""
        newest_first = select(IMPORTS).order_by(IMPORTS.c.created.desc(), IMPORTS.c.id)
        with self._read() as connection:
            return [_import(row) for row in connection.execute(newest_first)]

    def imported(self, wanted: str) -> ImportRow:
        """The import of this id, or of a beginning that only one has: `PREFIX` and more."""
        newest_first = select(IMPORTS.c.import_id).order_by(IMPORTS.c.created.desc(), IMPORTS.c.id)
        with self._read() as connection:
            ids = connection.scalars(newest_first).all()
            if not ids:
                raise StoreError(
                    f"{self.path} holds no imports.", remedy="Make one with `harness import FILE`."
                )
            import_id = _begun_by(self.path, wanted, ids, "imports")
            row = connection.execute(select(IMPORTS).where(IMPORTS.c.import_id == import_id)).one()
        return _import(row)

    def _prepare(self) -> None:
        with self._read() as connection:
            version = _schema_version(connection)
        if version in COMPLETED_VERSIONS:
            with self._write() as connection:
                METADATA.create_all(connection)
                connection.exec_driver_sql(f"PRAGMA user_version = {SCHEMA_VERSION}")
        elif version != SCHEMA_VERSION:
            raise StoreError(
                f"{self.path} has schema version {version}; this harness reads {SCHEMA_VERSION}.",
                remedy="Use the harness that wrote it, or another results folder.",
            )

    @contextmanager
    def _read(self) -> Iterator[Connection]:
        with _explained(self.path), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def _write(self) -> Iterator[Connection]:
        with self._read() as connection:
            # The lock is taken at once: a transaction that reads first and then wants to write
            # fails without any wait if another process wrote in between.
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            yield connection
            connection.commit()


def _engine(path: Path) -> Engine:
    engine = create_engine(
        URL.create("sqlite", database=str(path)),
        # The driver begins no transaction of its own accord; `Store._write` does.
        connect_args={"timeout": BUSY_SECONDS, "isolation_level": None},
    )
    event.listen(engine, "connect", _configure)
    return engine


def _configure(connection: sqlite3.Connection, _record: object) -> None:
    _use_write_ahead_log(connection)
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("PRAGMA foreign_keys = ON")


def _use_write_ahead_log(connection: sqlite3.Connection) -> None:
    """Waits for its turn itself: SQLite's own timeout does not hold for this change."""
    give_up = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if _primary_code(error) != sqlite3.SQLITE_BUSY or time.monotonic() > give_up:
                raise
            time.sleep(0.01)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turns what a user can mend into a `StoreError`; anything else is a bug and passes."""
    try:
        yield
    except DBAPIError as error:
        remedy = _REMEDIES.get(_primary_code(error.orig))
        if remedy is None:
            raise
        raise StoreError(f"{path}: {error.orig}", remedy=remedy) from error


def _primary_code(error: BaseException | None) -> int:
    """SQLite's error code, less the bits that refine it; 0 if the error is not from SQLite."""
    code: int = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF


def _schema_version(connection: Connection) -> int:
    version: int = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
    return version


def _match(path: Path, wanted: str, newest_first: Sequence[str]) -> str:
    if not newest_first:
        raise StoreError(f"{path} holds no runs.", remedy="Start one with `harness run`.")
    if wanted == LATEST:
        return newest_first[0]
    return _begun_by(path, wanted, newest_first, "runs", f'; or "{LATEST}"')


def _begun_by(path: Path, wanted: str, ids: Sequence[str], kind: str, more: str = "") -> str:
    """The one that is `wanted`, or begins so."""
    found = [wanted] if wanted in ids else [one for one in ids if one.startswith(wanted)]
    if len(found) == 1:
        return found[0]
    near = found or difflib.get_close_matches(wanted, ids, NEAR_RUNS) or ids
    raise StoreError(
        f"{path} holds {len(found) or 'no'} {kind} whose id begins with {wanted!r}.",
        remedy=f"Give one of: {', '.join(near[:NEAR_RUNS])}{more}.",
    )


def _values(record: object, names: Sequence[str]) -> dict[str, Any]:
    return {name: getattr(record, name) for name in names}


def _prompt_ids(run_id: str) -> Select[tuple[int]]:
    return select(PROMPTS.c.id).where(PROMPTS.c.run_id == run_id).order_by(PROMPTS.c.id)


def _insert_one(connection: Connection, table: Table, values: Mapping[str, Any]) -> int:
    key: int = connection.execute(insert(table).returning(table.c.id), values).scalar_one()
    return key


def _insert_all(
    connection: Connection, statement: Any, values: Sequence[Mapping[str, Any]]
) -> None:
    if values:  # without any values SQLAlchemy would insert one row of defaults
        connection.execute(statement, values)


def _upsert_cell() -> Insert:
    """One statement for both: only a failed cell is replaced."""
    new = sqlite_insert(CELLS)
    replaced = {
        column.name: new.excluded[column.name] for column in CELLS.c if not column.primary_key
    }
    return new.on_conflict_do_update(
        index_elements=list(CELLS.primary_key),
        set_=replaced,
        where=CELLS.c.status == "failed",
    )


def _update_use(connection: Connection, session_id: int, use: SessionUse) -> None:
    connection.execute(
        update_table(SESSIONS).where(SESSIONS.c.id == session_id).values(asdict(use))
    )


def _session(row: Row[Any]) -> SessionRow:
    values = row._asdict()
    use = SessionUse(**{name: values.pop(name) for name in _USE_COLUMNS})
    return SessionRow(**{**values, "info": SessionInfo(**values["info"])}, use=use)


def _cell(row: Row[Any]) -> CellRow:
    return CellRow(
        prompt_id=row.prompt_id,
        status=row.status,
        session_id=row.session_id,
        batch_id=row.batch_id,
        reason=row.reason,
        reply=_reply(row) if row.status == "done" else None,
    )


def _reply(row: Row[Any]) -> Reply:
    values = _values(row, _REPLY_COLUMNS)
    logprobs = values["label_logprobs"]
    values["token_ids"] = tuple(values["token_ids"])
    values["label_logprobs"] = None if logprobs is None else tuple(logprobs)
    return Reply(prompt=row.prompt_id, **values)


def _import_values(file: ImportFile, name: str) -> Iterator[dict[str, Any]]:
    """The columns of each test. Ids tell the file: they are the same wherever it is kept."""
    for number, test in enumerate(file.tests, start=1):
        place = f"-{number}" if len(file.tests) > 1 else ""
        yield {
            "import_id": f"{PREFIX}{file.sha256[:_HASH_DIGITS]}{place}",
            "name": name or file.name,
            "file_name": file.name,
            "file_sha256": file.sha256,
            **test.model_dump(mode="json"),
        }


def _import(row: Row[Any]) -> ImportRow:
    values = row._asdict()
    own = {name: values[name] for name in _IMPORT_COLUMNS}
    told = {name: values[name] for name in Imported.model_fields}
    return ImportRow(**own, imported=Imported.model_validate(told))
