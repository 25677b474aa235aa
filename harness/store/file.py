"""The SQLite file: how it is opened to be written or read, and what its errors mean to a user.

Who reads needs no right to write. SQLite does: beside a file with a write-ahead log it makes a
shared memory, and a log where there is none. Where it cannot, the file is read as it is if its log
is empty, and a copy of it if not; a file of an earlier version is upgraded in a copy too. The copy
is a temporary file and not in memory, where a store of long prompts may not have room.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import quote

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError

from harness.errors import StoreError
from harness.store.schema import METADATA, SCHEMA_VERSION

BUSY_SECONDS = 30.0

DAMAGED = "Move the file away (a new one is made), or restore a copy of it."
UNWRITABLE = "Give a results folder that you may write to."
_CHECK = "the folder has to be on this machine, not on a network."
_REMEDIES = {
    sqlite3.SQLITE_NOTADB: DAMAGED,
    sqlite3.SQLITE_CORRUPT: DAMAGED,
    sqlite3.SQLITE_READONLY: UNWRITABLE,
    sqlite3.SQLITE_CANTOPEN: UNWRITABLE,
    sqlite3.SQLITE_PERM: UNWRITABLE,
    sqlite3.SQLITE_FULL: "Make room on the disk.",
    sqlite3.SQLITE_IOERR: f"Make room on the disk, and check it; {_CHECK}",
    sqlite3.SQLITE_BUSY: "Another process holds the file; wait for it or end it.",
}
_NO_WRITING = (
    sqlite3.SQLITE_READONLY,
    # The log in a folder that may not be written.
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
)


def engine_to_write(path: Path) -> Engine:
    """Makes the file where there is none."""
    return _engine(path, {"mode": "rwc"})


def is_for_reading_only(path: Path) -> bool:
    """Whether we may not write a file, and no other process is writing it.

    If its folder may be written, SQLite would leave a log and a shared memory beside it.
    """
    return not os.access(path, os.W_OK) and not _log_of(path).exists()


def refuses_writing(error: StoreError) -> bool:
    """Whether what cannot be written might be read all the same."""
    return primary_code(error.__cause__) in _NO_WRITING


def disk_is_full(error: StoreError) -> bool:
    return primary_code(error.__cause__) in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR)


@contextmanager
def engine_to_read(path: Path) -> Iterator[Engine]:
    """Of a file that cannot be written, or whose log cannot be. Raises `StoreError`."""
    log = _log_of(path)
    try:
        if not log.exists() or not log.stat().st_size:
            # Immutable: SQLite makes no log, no shared memory and no lock beside the file.
            engine = _engine(path, {"mode": "ro", "immutable": "1"})
            try:
                with explained(path), engine.connect() as connection:
                    is_earlier = schema_version(connection) < SCHEMA_VERSION
                if not is_earlier:
                    yield engine
                    return
            finally:
                engine.dispose()
        with TemporaryDirectory(prefix="harness-", ignore_cleanup_errors=True) as folder:
            copy = Path(folder) / path.name
            for source, target in ((path, copy), (log, _log_of(copy))):
                if source.exists():
                    shutil.copyfile(source, target)
            # The copy is for reading too. SQLite writes it to take in the log, and so does an
            # upgrade.
            engine = engine_to_write(copy)
            try:
                yield engine
            finally:
                engine.dispose()
    except OSError as error:
        raise StoreError(
            f"{path} cannot be written, and not be copied to be read either: {error.strerror}",
            remedy="Give the folder of such a copy by TMPDIR, with room for the file.",
        ) from error


def check_kind(path: Path) -> None:
    """Raises `StoreError` where something else than a file is in its place."""
    if path.exists() and not path.is_file():
        raise StoreError(
            f"{path} is not a file", remedy="Move it away, or give another results folder."
        )


def check_tables(path: Path, connection: Connection) -> None:
    """Raises `StoreError` where a table or a column is missing."""
    found = connection.exec_driver_sql(
        "SELECT tables.name, columns.name FROM sqlite_master AS tables, "
        "pragma_table_info(tables.name) AS columns WHERE tables.type = 'table'"
    ).all()
    there = {(table, column) for table, column in found}
    for table in METADATA.sorted_tables:
        for column in table.c:
            if (table.name, column.name) not in there:
                raise StoreError(
                    f"{path} is damaged: it lacks {table.name}.{column.name}", remedy=DAMAGED
                )


def has_tables(connection: Connection) -> bool:
    return bool(connection.exec_driver_sql("SELECT count(*) FROM sqlite_master").scalar_one())


def schema_version(connection: Connection) -> int:
    version: int = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
    return version


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turns what a user can fix into a `StoreError`; anything else is a bug and passes."""
    try:
        yield
    except DBAPIError as error:
        remedy = _REMEDIES.get(primary_code(error))
        if remedy is None:
            raise
        raise StoreError(f"{path}: {error.orig}", remedy=remedy) from error


def primary_code(error: BaseException | None) -> int:
    """SQLite's error code, less the bits that refine it; 0 if the error is not from SQLite."""
    found = error.orig if isinstance(error, DBAPIError) else error
    code: int = getattr(found, "sqlite_errorcode", 0)
    return code & 0xFF


def _log_of(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


def _engine(path: Path, query: Mapping[str, str]) -> Engine:
    # In a URI, `?`, `#` and `%` of a path would have another meaning.
    name = quote(os.fsencode(path.absolute()))
    engine = create_engine(
        URL.create("sqlite", database=f"file:{name}", query={**query, "uri": "true"}),
        # The driver begins no transaction of its own accord; `Store._write` does.
        connect_args={"timeout": BUSY_SECONDS, "isolation_level": None},
    )
    is_immutable = "immutable" in query

    def configure(connection: sqlite3.Connection, _record: object) -> None:
        # Bytes that are no text are refused by name where they are read, not all that is with them.
        connection.text_factory = _as_text
        if not is_immutable:
            _use_write_ahead_log(connection)
        connection.execute("PRAGMA synchronous = NORMAL")
        # By default, SQLite does not check foreign keys.
        connection.execute("PRAGMA foreign_keys = ON")

    event.listen(engine, "connect", configure)
    return engine


def _as_text(data: bytes) -> str:
    return data.decode(errors="surrogateescape")


def _use_write_ahead_log(connection: sqlite3.Connection) -> None:
    """Waits for its turn itself: SQLite's own timeout does not hold for this change."""
    give_up = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if primary_code(error) != sqlite3.SQLITE_BUSY or time.monotonic() > give_up:
                raise
            time.sleep(0.01)
