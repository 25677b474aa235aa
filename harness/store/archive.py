"""Runs as one file, to be passed on: a ZIP archive of a manifest and of a store with these runs.

An archive comes from anyone. It is opened as nothing but two members of these names, each of a
bounded size, and nothing is written under a name that stands in it. Its store has to be a plain one
(tables and indexes), and every row of it is read as `harness.store.rows` reads a damaged file
before the first is copied. All runs are stored, or none.
"""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import stat
import struct
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from sqlalchemy.exc import IntegrityError

from harness.errors import DataError, HarnessError, StoreError, UsageError
from harness.machine.homes import without_home
from harness.spec import safe_name
from harness.store.copying import as_it_is
from harness.store.names import check_name
from harness.store.rows import DamagedError
from harness.store.runs import StoredRun
from harness.store.schema import SCHEMA_VERSION
from harness.store.store import FILE_NAME, Store, written_by_newer

VERSION = 1
MOST_BYTES = 2 * 2**30
"""Of a store in an archive."""

_MANIFEST = "manifest.json"
_MOST_MANIFEST = 2**20
_MOST_RATIO = 200  # of a member to its compressed form: texts and hashes come to 10
_CHUNK = 2**20
_END = struct.Struct("<4s4H2LH")  # what a ZIP archive ends with, where it has no comment
_RUN_ID = re.compile(r"\d{8}-\d{6}-[0-9a-f]{4}")
_REMEDY = "Have it made again with `harness export RUN -o run.zip`, and passed on as it is."
_WITH_PATHS = {
    *(("runs", name) for name in ("spec", "environment", "facts", "summary")),
    *(("sessions", name) for name in ("info", "environment")),
    ("entries", "model"),
    ("cells", "reason"),
}
"""Columns whose texts may name a home folder."""


class Manifest(BaseModel):
    """`group` is that of the runs where the archive is of a group."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    format: Literal["llm-backend-harness runs"]
    version: int
    schema_version: int
    group: str | None
    run_ids: tuple[str, ...] = Field(min_length=1)
    bytes: int
    sha256: str


def is_archive(path: Path) -> bool:
    return path.is_file() and zipfile.is_zipfile(path)


def write_archive(source: Store, run_ids: Sequence[str], group: str | None, target: Path) -> None:
    """Writes these runs to `target`, without whose home folder they name. They are in `group`: of a
    group that is not passed on, its run stands alone. Raises `StoreError`."""
    try:
        _write(source, run_ids, group, target)
    except OSError as error:
        raise StoreError(
            f"{target} cannot be written: {error.strerror}", remedy="Name another file with -o."
        ) from error
    except ValueError as error:
        raise StoreError(
            f"{target} was not written, because what is stored of its runs is damaged: {error}",
            remedy="Restore a copy of the results, or pass on other runs.",
        ) from error


def _write(source: Store, run_ids: Sequence[str], group: str | None, target: Path) -> None:
    def change(table: str, column: str, value: Any) -> Any:
        # With its group, a second run of the same one could not be stored beside it.
        is_group = (table, column) == ("runs", "group")
        return group if is_group else _without_home(table, column, value)

    with TemporaryDirectory(prefix="harness-", dir=target.parent) as folder:
        with Store(Path(folder)) as copy:
            copy.take_over(source, run_ids, change=change)
            for run_id in run_ids:
                _check_whole(copy, run_id)
        store, made = Path(folder) / FILE_NAME, Path(folder) / "runs.zip"
        with closing(sqlite3.connect(store)) as connection:
            connection.execute("PRAGMA journal_mode = DELETE")  # all of it in the one file
        manifest = Manifest(
            format="llm-backend-harness runs",
            version=VERSION,
            schema_version=SCHEMA_VERSION,
            group=group,
            run_ids=tuple(run_ids),
            bytes=store.stat().st_size,
            sha256=_hash_of(store),
        )
        with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(_MANIFEST, manifest.model_dump_json(indent=2))
            archive.write(store, FILE_NAME)
        made.replace(target)  # whole, or not at all


def read_archive(path: Path, target: Store, name: str | None = None) -> list[str]:
    """Stores the runs of an archive and returns their ids. `name` is for its group, or its only
    run. Raises `DataError` where it cannot be used, `UsageError` where something of it is here
    already."""
    with TemporaryDirectory(prefix="harness-") as folder:
        with _explained(path):
            manifest = _unpack(path, Path(folder) / FILE_NAME)
            _check_plain(Path(folder) / FILE_NAME, manifest, path)
            source = Store(Path(folder))
        with source:
            with _explained(path):
                ids = _check_runs(source, manifest)
            run_name, group = (None, name) if manifest.group else (name, None)
            if name is not None:
                check_name(name)
            try:
                target.take_over(source, ids, run_name, group)
            except (IntegrityError, DamagedError) as error:  # what no single row shows
                raise DataError(f"{path}: its runs are damaged", remedy=_REMEDY) from error
            return ids


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except (UsageError, DataError):
        raise
    except StoreError as error:
        # What is wrong with the store in it; the place of the copy says nothing to anyone.
        raise DataError(f"{path}: {_without_folder(error)}", remedy=error.remedy) from error
    except (zipfile.BadZipFile, zipfile.LargeZipFile, EOFError, NotImplementedError) as error:
        raise DataError(f"{path} is a damaged archive: {error}", remedy=_REMEDY) from error
    except (ValueError, TypeError, LookupError, sqlite3.Error) as error:
        raise DataError(f"{path}: its runs are damaged: {error}", remedy=_REMEDY) from error
    except OSError as error:
        raise DataError(
            f"{path} cannot be read: {error.strerror}",
            remedy="Check its permissions, and that there is room for a copy (TMPDIR).",
        ) from error


def _without_folder(error: HarnessError) -> str:
    return re.sub(r"\S*/harness-[^/\s]+/", "", str(error))


def _unpack(path: Path, store: Path) -> Manifest:
    """The manifest; the store is at its place, of the size and hash that the manifest states."""
    other = DataError(
        f"{path} is no archive of runs: that holds {_MANIFEST} and {FILE_NAME}, and nothing else",
        remedy=_REMEDY,
    )
    if not _has_two_members(path):
        raise other
    with zipfile.ZipFile(path) as archive:
        members = {one.filename: one for one in archive.infolist()}
        if members.keys() != {_MANIFEST, FILE_NAME}:
            raise other
        for member in members.values():
            _check_member(path, member)
        manifest = _manifest(path, archive.read(_MANIFEST))
        if manifest.bytes != members[FILE_NAME].file_size:
            raise DataError(
                f"{path}: {FILE_NAME} has {members[FILE_NAME].file_size:,} bytes, and "
                f"{manifest.bytes:,} are stated",
                remedy=_REMEDY,
            )
        with archive.open(members[FILE_NAME]) as content, store.open("wb") as file:
            # `zipfile` gives no more than the size that was just checked.
            shutil.copyfileobj(content, file, _CHUNK)
    if _hash_of(store) != manifest.sha256:
        raise DataError(f"{path}: {FILE_NAME} is not that of its SHA-256", remedy=_REMEDY)
    return manifest


def _has_two_members(path: Path) -> bool:
    """Before `zipfile` reads the list of members, which may have millions."""
    with path.open("rb") as file:
        file.seek(-_END.size, os.SEEK_END)
        mark, *_, here, members, directory_bytes, _, comment = _END.unpack(file.read())
    is_end = mark == b"PK\5\6" and comment == 0
    return bool(is_end and here == members == 2 and directory_bytes < _MOST_MANIFEST)


def _check_member(path: Path, member: zipfile.ZipInfo) -> None:
    most = _MOST_MANIFEST if member.filename == _MANIFEST else MOST_BYTES
    kind = stat.S_IFMT(member.external_attr >> 16)
    if kind not in (0, stat.S_IFREG):
        raise DataError(f"{path}: {member.filename} is a link, not a file", remedy=_REMEDY)
    if member.flag_bits & 1:
        raise DataError(f"{path}: {member.filename} is encrypted", remedy=_REMEDY)
    ratio = member.file_size / max(member.compress_size, 1)
    if member.file_size > most or ratio > _MOST_RATIO:
        raise DataError(
            f"{path}: {member.filename} would be {member.file_size:,} bytes, out of "
            f"{member.compress_size:,}: no run is like this",
            remedy="Do not use this file; it may be made to fill your disk.",
        )


def _manifest(path: Path, content: bytes) -> Manifest:
    try:
        manifest = Manifest.model_validate_json(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"])) or _MANIFEST
        raise DataError(
            f"{path} is no archive of runs: {place}: {first['msg']}", remedy=_REMEDY
        ) from error
    if manifest.version > VERSION or manifest.schema_version > SCHEMA_VERSION:
        raise written_by_newer(str(path))
    return manifest


def _check_plain(store: Path, manifest: Manifest, path: Path) -> None:
    """Raises `DataError` for a file with more in it than tables and indexes, or a damaged one."""
    with closing(sqlite3.connect(f"file:{store}?mode=ro&immutable=1", uri=True)) as connection:
        # No function that stands in the file is called.
        connection.execute("PRAGMA trusted_schema = OFF")
        kinds = connection.execute("SELECT type, sql FROM sqlite_master").fetchall()
        is_plain = all(
            kind in ("table", "index") and "VIRTUAL" not in (sql or "").upper().split()
            for kind, sql in kinds
        )
        [version] = connection.execute("PRAGMA user_version").fetchone()
        if not is_plain or version != manifest.schema_version:
            raise DataError(f"{path}: {FILE_NAME} is not as the harness makes it", remedy=_REMEDY)
        [found] = connection.execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            raise DataError(f"{path}: {FILE_NAME} is damaged: {found}", remedy=_REMEDY)


def _check_runs(source: Store, manifest: Manifest) -> list[str]:
    rows = source.runs()
    if sorted(row.run_id for row in rows) != sorted(manifest.run_ids):
        raise ValueError("they are not those that its manifest names")
    if manifest.group is not None and {row.group for row in rows} != {manifest.group}:
        raise ValueError("they are not of one group")
    for row in rows:
        if not _RUN_ID.fullmatch(row.run_id):
            raise ValueError(f"{row.run_id!r} is no id of a run")
        for name in filter(None, (row.group, *(one.name for one in source.entries(row.run_id)))):
            if name != safe_name(name):
                raise ValueError(f"{name!r} is no name")
        if row.name is not None:
            check_name(row.name)
        _check_whole(source, row.run_id)
    return list(manifest.run_ids)


def _check_whole(store: Store, run_id: str) -> None:
    """Reads everything of a run. Raises `StoreError` or `ValueError` where it cannot be read."""
    run = StoredRun(store, store.run(run_id))
    run.check_prompted()
    store.check_prompts(run_id)
    for entry in run.entries.values():
        _ = entry.tokens, entry.batches
        for _ in entry.records():
            pass
    _ = run.baselines


def _without_home(table: str, column: str, value: Any) -> Any:
    if isinstance(value, str) and (table, column) in _WITH_PATHS:
        return without_home(value)
    return as_it_is(table, column, value)


def _hash_of(path: Path) -> str:
    digest = sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
