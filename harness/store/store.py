"""The results of a folder: one SQLite file that several processes may write at the same time.

Every method that writes is one transaction. The journal is a write-ahead log with
`synchronous = NORMAL`: what was committed outlives the death of the process, kill -9 included; a
power cut may cost the transactions of the last `CHECKPOINT_SECONDS` but leaves the file whole. The
log needs shared memory, so all processes have to be on one machine (https://sqlite.org/wal.html). A
connection that finds the file locked waits for up to `harness.store.file.BUSY_SECONDS`.
"""

from __future__ import annotations

import secrets
import time
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, fields
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeAlias, TypeVar

from sqlalchemy import Connection, Engine, Row, Select, Table, delete, func, insert, select
from sqlalchemy import update as update_table
from sqlalchemy.dialects.sqlite import Insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from harness.contract import Batch, Finding, Reply, SessionInfo
from harness.errors import StoreError, UsageError
from harness.imports.records import PREFIX, ImportFile, ImportRow
from harness.store.copying import Change, as_it_is, copy_runs
from harness.store.file import (
    DAMAGED,
    UNWRITABLE,
    check_kind,
    check_tables,
    engine_to_read,
    engine_to_write,
    explained,
    has_tables,
    is_for_reading_only,
    refuses_writing,
    schema_version,
)
from harness.store.names import begun_by, check_unused, find_run
from harness.store.prompts import (
    ids_hashes,
    pack_ids,
    pack_texts,
    text_hashes,
    tokens_sha256,
    unpack_ids,
    unpack_texts,
)
from harness.store.rows import (
    DamagedError,
    as_stored,
    raw,
    read_baseline,
    read_batch,
    read_blob,
    read_cell,
    read_count,
    read_import,
    read_row,
    read_run,
    read_session,
)
from harness.store.schema import (
    BASELINES,
    BATCHES,
    CELLS,
    ENTRIES,
    IMPORTS,
    PROCESSOR_USE,
    PROMPT_IDS,
    PROMPT_TEXTS,
    PROMPT_TOKENS,
    PROMPTS,
    RECORDS_VERSION,
    RUN_NAMES,
    RUNS,
    SCHEMA_VERSION,
    SESSIONS,
    BatchRow,
    CellRow,
    EntryRow,
    PromptRow,
    RunRow,
    SessionRow,
    SessionUse,
    TokensRow,
)
from harness.store.upgrade import upgrade_tables
from harness.summary import Baseline

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FILE_NAME = "harness.sqlite"
CHECKPOINT_SECONDS = 10.0  # a checkpoint takes 20 ms, so 0.2 % of the time

_ENTRY_COLUMNS = tuple(field.name for field in fields(EntryRow))
_PROMPT_COLUMNS = tuple(field.name for field in fields(PromptRow) if field.name != "id")
_CLOCK_COLUMNS = tuple(field.name for field in fields(Batch) if field.name != "replies")
_REPLY_COLUMNS = tuple(field.name for field in fields(Reply) if field.name != "prompt")
_IMPORT_COLUMNS = tuple(field.name for field in fields(ImportRow) if field.name != "imported")
_PROCESSOR_COLUMNS = tuple(one.name for one in PROCESSOR_USE.c if one.name != "session_id")
_HASH_DIGITS = 10
_ROWS_AT_ONCE = 1000
_WORTH_IT = 0.25  # of the file is free

Answered: TypeAlias = tuple[PromptRow, CellRow, TokensRow | None]
"""A cell between its prompt and the tokens of that."""


Part = TypeVar("Part")


class Store:
    """All runs of one results folder, which is made if it is not there. Raises `StoreError`.

    A file of an earlier version is upgraded when it is opened. One that is opened `to_read` is
    never made, and need not be writable: see `harness.store.file`.
    """

    def __init__(self, folder: Path, *, to_read: bool = False) -> None:
        self.path = folder / FILE_NAME
        self._is_to_read = to_read
        self._checkpointed = time.monotonic()
        self._opened = ExitStack()
        # Of the stack alone: a reference to `self` would hold the store for ever.
        weakref.finalize(self, self._opened.close)
        check_kind(self.path)
        try:
            if to_read:
                self._open_to_read()
            else:
                self._make_folder()
                self._open(engine_to_write(self.path))
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
        self._opened.close()

    def create_run(
        self,
        spec_json: str,
        environment_json: str,
        entries: Sequence[EntryRow],
        data_sha256: str | None,
        group: str | None = None,
        name: str | None = None,
    ) -> str:
        """Begins a run and returns its id, such as `20261123-142003-7f3a` (UTC). Raises
        `UsageError` where its name is used already."""
        now = datetime.now(UTC)
        values = {
            "created": now.isoformat(),
            "records_version": RECORDS_VERSION,
            "group": group,
            "data_sha256": data_sha256,
            "spec": spec_json,
            "environment": environment_json,
        }
        with self._write() as connection:
            if name is not None:
                # In the transaction: two processes may want the same name.
                check_unused(name, _rows(connection))
            while True:
                # Runs that begin in the same second may draw the same digits.
                run_id = f"{now:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
                new = sqlite_insert(RUNS).values(run_id=run_id, **values)
                new = new.on_conflict_do_nothing(index_elements=["run_id"])
                if connection.execute(new).rowcount:
                    break
            if name is not None:
                connection.execute(insert(RUN_NAMES).values(run_id=run_id, name=name))
            named = [
                {"run_id": run_id, "position": position, **asdict(entry)}
                for position, entry in enumerate(entries)
            ]
            _insert_all(connection, insert(ENTRIES), named)
        return run_id

    def finish_run(self, run_id: str, summary_json: str, baselines: Sequence[Baseline]) -> None:
        """Stores the summary and the baselines, in place of any that the run has.

        Its records are of this version from then on: the others of a run that an earlier version
        began are read in the same way by both.
        """
        finished = {"summary": summary_json, "records_version": RECORDS_VERSION}
        rows = [
            {
                "run_id": run_id,
                "name": one.name,
                "position": position,
                "record": one.model_dump_json(),
            }
            for position, one in enumerate(baselines)
        ]
        with self._write() as connection:
            connection.execute(update_table(RUNS).where(RUNS.c.run_id == run_id).values(**finished))
            connection.execute(delete(BASELINES).where(BASELINES.c.run_id == run_id))
            _insert_all(connection, insert(BASELINES), rows)
        self._checkpoint()

    def take_over(
        self,
        source: Store,
        run_ids: Sequence[str],
        name: str | None = None,
        group: str | None = None,
        change: Change = as_it_is,
    ) -> None:
        """Copies runs with all that is stored of them, all or none: under another name or group
        where one is given, each value as `change` makes it. Raises `UsageError` where an id, a name
        or the group is used here already."""
        with source._read() as reading, self._write() as connection:
            reading.exec_driver_sql("BEGIN")  # all of it as it is now, whoever prompts it
            rows = {row.run_id: row for row in _rows(reading) if row.run_id in run_ids}
            here = _rows(connection)
            for run_id, row in rows.items():
                if run_id in {one.run_id for one in here}:
                    raise UsageError(
                        f"run {run_id} is stored here already",
                        remedy="Give another folder with --results, or `harness delete` it first.",
                    )
                for called in (name or row.name, group or row.group):
                    if called is not None:
                        check_unused(called, here)
            copy_runs(reading, connection, list(rows), name, group, change)
        self._checkpoint()

    def check_prompts(self, run_id: str) -> None:
        """Raises `ValueError` where stored texts or token ids are not those that the hashes beside
        them are of."""
        by_voter: dict[int, list[PromptRow]] = {}
        for prompt in self.prompts(run_id):
            by_voter.setdefault(prompt.voter, []).append(prompt)
        texts = self._blocks(
            raw(PROMPT_TEXTS, "voter", "content").where(PROMPT_TEXTS.c.run_id == run_id)
        )
        for voter, content in texts.items():
            hashes = [prompt.text_sha256 for prompt in by_voter.get(voter, [])]
            if text_hashes(content) != hashes:
                raise ValueError(f"the texts of voter {voter} are not those of their hashes")
        if texts and texts.keys() != by_voter.keys():
            raise ValueError("the texts of a voter are missing")
        for vocabulary in dict.fromkeys(one.vocabulary for one in self.entries(run_id)):
            if vocabulary is not None:
                self._check_ids(run_id, vocabulary)

    def _check_ids(self, run_id: str, vocabulary: str) -> None:
        wanted = raw(PROMPT_IDS, "voter", "content").where(PROMPT_IDS.c.run_id == run_id)
        blocks = self._blocks(wanted.where(PROMPT_IDS.c.vocabulary == vocabulary))
        if not blocks:
            return
        rows = self.prompt_tokens(run_id, vocabulary)
        stored = _by_voter(self.prompts(run_id), rows)
        hashes = {
            voter: [(row.token_sha256, row.n_tokens) for row in own]
            for voter, own in stored.items()
        }
        if {voter: ids_hashes(content) for voter, content in blocks.items()} != hashes:
            raise ValueError("the token ids of its prompts are not those of their hashes")

    def delete_runs(self, run_ids: Sequence[str]) -> None:
        """Deletes runs with all that is stored of them; the caller holds their locks."""
        with self._write(checks_references=False) as connection:
            for run_id in run_ids:
                of_run = select(PROMPTS.c.id).where(PROMPTS.c.run_id == run_id)
                sessions = select(SESSIONS.c.id).where(SESSIONS.c.run_id == run_id)
                for table, which in (
                    (CELLS, CELLS.c.prompt_id.in_(of_run)),
                    (BATCHES, BATCHES.c.session_id.in_(sessions)),
                    (PROCESSOR_USE, PROCESSOR_USE.c.session_id.in_(sessions)),
                    (PROMPT_TOKENS, PROMPT_TOKENS.c.prompt_id.in_(of_run)),
                ):
                    connection.execute(delete(table).where(which))
                for table in (
                    *(SESSIONS, PROMPTS, PROMPT_TEXTS, PROMPT_IDS, BASELINES, ENTRIES, RUN_NAMES),
                    RUNS,
                ):
                    connection.execute(delete(table).where(table.c.run_id == run_id))

    def delete_import(self, import_id: str) -> None:
        with self._write() as connection:
            connection.execute(delete(IMPORTS).where(IMPORTS.c.import_id == import_id))

    def size(self, run_ids: Sequence[str]) -> dict[str, int]:
        """How many cells each of these runs has."""
        wanted = (
            select(PROMPTS.c.run_id, func.count())
            .select_from(CELLS.join(PROMPTS))
            .where(PROMPTS.c.run_id.in_(run_ids))
            .group_by(PROMPTS.c.run_id)
        )
        with self._read() as connection:
            found = {row[0]: int(row[1]) for row in connection.execute(wanted)}
        return {run_id: found.get(run_id, 0) for run_id in run_ids}

    def give_back_space(self) -> None:
        """Makes the file as small as what is in it, where that is worth to write all of it again.

        A process that writes waits meanwhile. Where it cannot be done, what is free is used by the
        runs to come.
        """
        with self._read() as connection:
            free, pages = (
                connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
                for name in ("freelist_count", "page_count")
            )
            if free < _WORTH_IT * pages:
                return
            try:
                connection.exec_driver_sql("VACUUM")
            except DBAPIError:  # in use, or no room for a second copy
                return
        with self._read() as connection:
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")

    def run(self, wanted: str) -> RunRow:
        """The run of this id or name, of a beginning that only one id has, or of the word "latest":
        the newest run that is in no group."""
        return find_run(self.path, wanted, self.runs())

    def groups(self) -> dict[str, str | None]:
        """The group of each run by its id, the newest first."""
        return {row.run_id: row.group for row in self.runs()}

    def runs(self) -> list[RunRow]:
        """Every run, the newest first, damaged ones too."""
        with self._read() as connection:
            return _rows(connection)

    def entry_names(self) -> set[str]:
        """The names of the entries of all runs."""
        with self._read() as connection:
            return set(connection.scalars(raw(ENTRIES, "name").distinct()))

    def entries(self, run_id: str) -> list[EntryRow]:
        """The entries of a run, in its order."""
        wanted = (
            raw(ENTRIES, *_ENTRY_COLUMNS)
            .where(ENTRIES.c.run_id == run_id)
            .order_by(ENTRIES.c.position)
        )
        with self._read() as connection:
            return [read_row(EntryRow, ENTRIES, row) for row in connection.execute(wanted)]

    def save_prompts(
        self,
        run_id: str,
        prompts: Sequence[PromptRow],
        texts: Sequence[str],
        token_ids: Mapping[str, Sequence[Sequence[int]]],
        vocabularies: Mapping[str, str],
        facts_json: str,
    ) -> None:
        """Stores all that was packed: a text for each prompt, and its ids in each vocabulary.

        `token_ids` are by vocabulary, `vocabularies` by entry. A length that is not that of
        `prompts` is a `ValueError`. To what a run has already, which the caller has found to be the
        same, is added what is missing.
        """
        values = [{"run_id": run_id, **_values(prompt, _PROMPT_COLUMNS)} for prompt in prompts]
        packed_texts = [
            {"run_id": run_id, "voter": voter, "content": pack_texts(own)}
            for voter, own in _by_voter(prompts, texts).items()
        ]
        packed_ids = [
            {"run_id": run_id, "voter": voter, "vocabulary": name, "content": pack_ids(own)}
            for name, every in token_ids.items()
            for voter, own in _by_voter(prompts, every).items()
        ]
        with self._write() as connection:
            of_run = select(PROMPTS.c.id).where(PROMPTS.c.run_id == run_id).order_by(PROMPTS.c.id)
            if connection.execute(of_run).first() is None:
                _insert_all(connection, insert(PROMPTS), values)
            ids = connection.scalars(of_run).all()
            tokens = [
                {
                    "prompt_id": prompt_id,
                    "vocabulary": name,
                    "token_sha256": tokens_sha256(own),
                    "n_tokens": len(own),
                }
                for name, every in token_ids.items()
                for prompt_id, own in zip(ids, every, strict=True)
            ]
            for table, rows in (
                (PROMPT_TOKENS, tokens),
                (PROMPT_TEXTS, packed_texts),
                (PROMPT_IDS, packed_ids),
            ):
                _insert_all(connection, sqlite_insert(table).on_conflict_do_nothing(), rows)
            for entry, name in vocabularies.items():
                connection.execute(
                    update_table(ENTRIES)
                    .where(ENTRIES.c.run_id == run_id, ENTRIES.c.name == entry)
                    .values(vocabulary=name)
                )
            connection.execute(
                update_table(RUNS).where(RUNS.c.run_id == run_id).values(facts=facts_json)
            )

        self._checkpoint()

    def prompts(self, run_id: str) -> list[PromptRow]:
        """The prompts of a run, in the order in which they were saved."""
        wanted = (
            raw(PROMPTS, "id", *_PROMPT_COLUMNS)
            .where(PROMPTS.c.run_id == run_id)
            .order_by(PROMPTS.c.id)
        )
        with self._read() as connection:
            return [read_row(PromptRow, PROMPTS, row) for row in connection.execute(wanted)]

    def prompt_texts(self, run_id: str) -> list[str] | None:
        """The text of each prompt, as `prompts` orders them; `None` where none are stored."""
        wanted = raw(PROMPT_TEXTS, "voter", "content")
        blocks = self._blocks(wanted.where(PROMPT_TEXTS.c.run_id == run_id))
        if not blocks:
            return None
        return self._in_order(run_id, {one: unpack_texts(block) for one, block in blocks.items()})

    def prompt_tokens(self, run_id: str, vocabulary: str) -> list[TokensRow]:
        """The tokens of a run's prompts in a vocabulary, as `prompts` orders them."""
        wanted = (
            raw(PROMPT_TOKENS, "token_sha256", "n_tokens")
            .join(PROMPTS)
            .where(PROMPTS.c.run_id == run_id, PROMPT_TOKENS.c.vocabulary == vocabulary)
            .order_by(PROMPTS.c.id)
        )
        with self._read() as connection:
            return [read_row(TokensRow, PROMPT_TOKENS, row) for row in connection.execute(wanted)]

    def prompt_ids(self, run_id: str, vocabulary: str) -> list[NDArray[np.int32]] | None:
        """The token ids of each prompt, as `prompts` orders them; `None` where none are stored."""
        wanted = raw(PROMPT_IDS, "voter", "content")
        of_vocabulary = PROMPT_IDS.c.vocabulary == vocabulary
        blocks = self._blocks(wanted.where(PROMPT_IDS.c.run_id == run_id, of_vocabulary))
        if not blocks:
            return None
        return self._in_order(run_id, {one: unpack_ids(block) for one, block in blocks.items()})

    def open_session(
        self,
        run_id: str,
        entry: str,
        info: SessionInfo,
        load_seconds: float | None,
        model_sha256: str | None = None,
        environment: str | None = None,
    ) -> int:
        """Stores that a worker was opened, and returns the session's id.

        `environment` is JSON, `None` where it is the run's.
        """
        values = {
            "run_id": run_id,
            "entry": entry,
            "started": datetime.now(UTC).isoformat(),
            "info": asdict(info),
            "load_seconds": load_seconds,
            "model_sha256": model_sha256,
            "environment": environment,
        }
        with self._write() as connection:
            return _insert_one(connection, SESSIONS, values)

    def save_finding(self, session_id: int, finding: Finding) -> None:
        """Stores what a reply showed of an engine, beside what was found when it was opened."""
        with self._write() as connection:
            of_session = select(SESSIONS.c.info).where(SESSIONS.c.id == session_id)
            info = connection.scalars(of_session).one()
            found = {**info, "findings": [*info["findings"], asdict(finding)]}
            connection.execute(
                update_table(SESSIONS).where(SESSIONS.c.id == session_id).values(info=found)
            )

    def close_session(self, session_id: int, use: SessionUse) -> None:
        """Stores what the session used in all."""
        with self._write() as connection:
            _update_use(connection, session_id, use)

    def sessions(self, run_id: str, entry: str) -> list[SessionRow]:
        """The sessions of one entry of a run, the oldest first."""
        columns = [*SESSIONS.c, *(PROCESSOR_USE.c[name] for name in _PROCESSOR_COLUMNS)]
        wanted = (
            select(*map(as_stored, columns))
            .select_from(SESSIONS.outerjoin(PROCESSOR_USE))
            .where(SESSIONS.c.run_id == run_id, SESSIONS.c.entry == entry)
        )
        with self._read() as connection:
            return [read_session(row) for row in connection.execute(wanted.order_by(SESSIONS.c.id))]

    def save_batch(
        self,
        session_id: int,
        batch: Batch,
        cells: Mapping[int, tuple[int, int]],
        use: SessionUse,
    ) -> None:
        """Stores a batch, its replies as cells that are done, and the session's use so far.

        `cells` maps `Reply.prompt` to `PromptRow.id` and attempt. A cell that is done already
        stays as it is; any other is replaced.
        """
        clock = {"session_id": session_id, **_values(batch, _CLOCK_COLUMNS)}
        with self._write() as connection:
            batch_id = _insert_one(connection, BATCHES, clock)
            of_session = select(SESSIONS.c.entry).where(SESSIONS.c.id == session_id)
            done = {
                "entry": connection.scalars(of_session).one(),
                "status": "done",
                "session_id": session_id,
                "batch_id": batch_id,
                "reason": None,
            }
            answered = [
                {**_cell_key(cells[reply.prompt]), **done, **_values(reply, _REPLY_COLUMNS)}
                for reply in batch.replies
            ]
            _insert_all(connection, _upsert_cell(), answered)
            _update_use(connection, session_id, use)
        if time.monotonic() - self._checkpointed > CHECKPOINT_SECONDS:
            self._checkpoint()

    def save_failures(
        self,
        entry: str,
        failures: Mapping[tuple[int, int], str],
        session_id: int | None = None,
    ) -> None:
        """Stores why cells failed; `failures` maps `PromptRow.id` and attempt to the reason.

        Cells that are done stay as they are.
        """
        failed = {"entry": entry, "status": "failed", "session_id": session_id}
        cells = [
            {**_cell_key(cell), **failed, "reason": reason} for cell, reason in failures.items()
        ]
        with self._write() as connection:
            _insert_all(connection, _upsert_cell(), cells)

    def save_not_needed(self, entry: str, cells: Sequence[tuple[int, int]]) -> None:
        """Stores that no reply is needed to these, each a `PromptRow.id` and an attempt.

        Cells that are done stay as they are.
        """
        left_out = {"entry": entry, "status": "not_needed"}
        with self._write() as connection:
            values = [{**_cell_key(cell), **left_out} for cell in cells]
            _insert_all(connection, _upsert_cell(), values)

    def cells(self, run_id: str, entry: str) -> list[CellRow]:
        """The cells of one entry of a run, in the order of prompts, then of attempts.

        Open ones are missing.
        """
        wanted = (
            raw(CELLS)
            .join(PROMPTS)
            .where(PROMPTS.c.run_id == run_id, CELLS.c.entry == entry)
            .order_by(PROMPTS.c.id, CELLS.c.attempt)
        )
        with self._read() as connection:
            return [read_cell(row) for row in connection.execute(wanted)]

    def answers(self, run_id: str, entry: str, vocabulary: str | None) -> Iterator[Answered]:
        """The cells of one entry in the order of `cells`, each with its prompt and with that
        prompt's tokens in a vocabulary: read one after the other, so that they need no room."""
        prompt = (as_stored(PROMPTS.c[name]) for name in ("id", *_PROMPT_COLUMNS))
        tokens = (as_stored(PROMPT_TOKENS.c[name]) for name in ("token_sha256", "n_tokens"))
        of_vocabulary = PROMPT_TOKENS.c.vocabulary == vocabulary
        wanted = (
            select(*prompt, *map(as_stored, CELLS.c), *tokens)
            .select_from(CELLS.join(PROMPTS))
            .outerjoin(PROMPT_TOKENS, (PROMPT_TOKENS.c.prompt_id == PROMPTS.c.id) & of_vocabulary)
            .where(PROMPTS.c.run_id == run_id, CELLS.c.entry == entry)
            .order_by(PROMPTS.c.id, CELLS.c.attempt)
            .execution_options(yield_per=_ROWS_AT_ONCE)
        )
        with self._read() as connection:
            for row in connection.execute(wanted):
                has_tokens = row.token_sha256 is not None
                yield (
                    read_row(PromptRow, PROMPTS, row),
                    read_cell(row),
                    read_row(TokensRow, PROMPT_TOKENS, row) if has_tokens else None,
                )

    def batch_sizes(self, run_id: str, entry: str) -> dict[int, int]:
        """How many cells each batch of an entry has answered, by its id. The cells are counted, and
        none is read: a run may have thousands."""
        batch = as_stored(CELLS.c.batch_id)
        wanted = (
            select(batch, func.count())
            .select_from(CELLS.join(PROMPTS))
            .where(
                PROMPTS.c.run_id == run_id, CELLS.c.entry == entry, CELLS.c.batch_id.is_not(None)
            )
            .group_by(batch)
        )
        with self._read() as connection:
            rows = connection.execute(wanted).all()
        return {read_count(found, "cells.batch_id"): count for found, count in rows}

    def longest_prompt(self, run_id: str, vocabulary: str) -> int:
        """The most tokens that a prompt of a run has in a vocabulary; 0 where there are none."""
        wanted = (
            select(func.max(as_stored(PROMPT_TOKENS.c.n_tokens)))
            .select_from(PROMPT_TOKENS.join(PROMPTS))
            .where(PROMPTS.c.run_id == run_id, PROMPT_TOKENS.c.vocabulary == vocabulary)
        )
        with self._read() as connection:
            return read_count(connection.scalar(wanted) or 0, "prompt_tokens.n_tokens")

    def batches(self, run_id: str, entry: str) -> list[BatchRow]:
        """The batches of one entry of a run, over all its sessions, in order."""
        wanted = (
            raw(BATCHES)
            .join(SESSIONS)
            .where(SESSIONS.c.run_id == run_id, SESSIONS.c.entry == entry)
            .order_by(BATCHES.c.id)
        )
        with self._read() as connection:
            return [read_batch(row) for row in connection.execute(wanted)]

    def baselines(self, run_id: str) -> list[Baseline]:
        """The baselines of a run, in the order in which they were saved."""
        wanted = raw(BASELINES, "record").where(BASELINES.c.run_id == run_id)
        with self._read() as connection:
            records = connection.scalars(wanted.order_by(BASELINES.c.position)).all()
        return [read_baseline(record) for record in records]

    def save_imports(self, files: Sequence[ImportFile], name: str = "") -> list[ImportFile]:
        """Stores the tests of all files, under the file's name where there is no other.

        Returns the files that were stored already, by their hash: nothing is added for these.
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
        """Every import, the newest first, those of one file in its order. Damaged ones are left
        out: see `damaged_imports`."""
        return [row for row in self._imports() if isinstance(row, ImportRow)]

    def damaged_imports(self) -> list[StoreError]:
        """Why imports cannot be read, of each that cannot."""
        return [row for row in self._imports() if isinstance(row, StoreError)]

    def _imports(self) -> list[ImportRow | StoreError]:
        newest_first = raw(IMPORTS).order_by(IMPORTS.c.created.desc(), IMPORTS.c.id)
        with self._read() as connection:
            return [_import(row) for row in connection.execute(newest_first)]

    def imported(self, wanted: str) -> ImportRow:
        """The import of this id, or of a beginning that only one has: `PREFIX` and more."""
        newest_first = raw(IMPORTS, "import_id").order_by(IMPORTS.c.created.desc(), IMPORTS.c.id)
        with self._read() as connection:
            ids = [one for one in connection.scalars(newest_first) if isinstance(one, str)]
            if not ids:
                raise StoreError(
                    f"{self.path} holds no imports.", remedy="Make one with `harness import FILE`."
                )
            import_id = begun_by(self.path, wanted, ids, "imports")
            row = connection.execute(raw(IMPORTS).where(IMPORTS.c.import_id == import_id)).one()
        found = _import(row)
        if isinstance(found, StoreError):
            raise found
        return found

    def _make_folder(self) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(
                f"the results folder {self.path.parent} could not be made: {error.strerror}",
                remedy=UNWRITABLE,
            ) from error

    def _open_to_read(self) -> None:
        if not self.path.stat().st_size:
            raise StoreError(f"{self.path} is empty", remedy=DAMAGED)
        if not is_for_reading_only(self.path):
            try:
                return self._open(engine_to_write(self.path))
            except StoreError as error:
                if not refuses_writing(error):
                    raise
                self._opened.close()
        self._open(self._opened.enter_context(engine_to_read(self.path)))
        return None

    def _open(self, engine: Engine) -> None:
        """Makes the tables, or brings those of an earlier version up to date."""
        self._engine = engine
        self._opened.callback(engine.dispose)
        with self._read() as connection:
            version = schema_version(connection)
        if version < SCHEMA_VERSION:
            try:
                # A table that is made again is dropped while others refer to it.
                with self._transaction(checks_references=False) as connection:
                    # Another process may have done it while this one waited for the lock.
                    version = schema_version(connection)
                    # A new file has version 0 too, and no tables.
                    if version <= 0 and (version or has_tables(connection)):
                        raise ValueError("it says nothing of its version")
                    if version < SCHEMA_VERSION:
                        upgrade_tables(connection, version)
            except (SQLAlchemyError, ValueError, TypeError, LookupError, AttributeError) as error:
                raise StoreError(
                    f"{self.path} could not be upgraded and was left as it was: "
                    # The text of `error` itself would have the whole SQL statement in it.
                    f"{getattr(error, 'orig', error)}",
                    remedy=DAMAGED,
                ) from error
        if version > SCHEMA_VERSION:
            raise written_by_newer(str(self.path))
        with self._read() as connection:
            check_tables(self.path, connection)

    def _blocks(self, wanted: Select[Any]) -> dict[int, bytes]:
        """The stored form of prompts by voter."""
        with self._read() as connection:
            return {row.voter: read_blob(row.content) for row in connection.execute(wanted)}

    def _in_order(self, run_id: str, by_voter: Mapping[int, Sequence[Part]]) -> list[Part]:
        """What is stored voter by voter, in the order of the run's prompts."""
        following = {voter: iter(own) for voter, own in by_voter.items()}
        try:
            return [next(following[prompt.voter]) for prompt in self.prompts(run_id)]
        except (StopIteration, KeyError) as error:
            raise ValueError("its prompts are damaged: some are missing") from error

    def _checkpoint(self) -> None:
        """Moves what is in the log to the file, as far as no reader is in the way.

        SQLite does so by itself after 1,000 pages, and a short run never fills these. Until it is
        done, a copy of the file alone lacks the run, and a power cut may cost it.
        """
        with self._read() as connection:
            connection.exec_driver_sql("PRAGMA wal_checkpoint(PASSIVE)")
        self._checkpointed = time.monotonic()

    @contextmanager
    def _read(self) -> Iterator[Connection]:
        with explained(self.path), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def _write(self, checks_references: bool = True) -> Iterator[Connection]:
        assert not self._is_to_read, "what is read might be a copy"
        with self._transaction(checks_references) as connection:
            try:
                yield connection
            except (OverflowError, UnicodeEncodeError) as error:
                raise StoreError(
                    f"{self.path}: this cannot be stored: {error}",
                    remedy="Begin a run with smaller numbers, or with texts of whole characters.",
                ) from error

    @contextmanager
    def _transaction(self, checks_references: bool = True) -> Iterator[Connection]:
        """`checks_references` off is for whole runs: SQLite would look through all cells for each
        batch that is deleted."""
        with self._read() as connection, _checking(connection, checks_references):
            # The lock is taken at once: a transaction that reads first and then wants to write
            # fails without any wait if another process wrote in between.
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            yield connection
            # After an error this is not reached, and SQLAlchemy rolls back.
            connection.commit()


@contextmanager
def _checking(connection: Connection, references: bool) -> Iterator[None]:
    if references:
        yield
        return
    connection.exec_driver_sql("PRAGMA foreign_keys = OFF")
    try:
        yield
    finally:
        connection.rollback()  # of what failed: within a transaction, the next line does nothing
        connection.exec_driver_sql("PRAGMA foreign_keys = ON")


def written_by_newer(what: str) -> StoreError:
    """The error of whatever a newer version has stored: a file, or a run in it."""
    return StoreError(
        f"{what} was written by a newer version of the harness",
        remedy="Update the harness, or read it where it was written.",
    )


def _rows(connection: Connection) -> list[RunRow]:
    # Moments are stored as ISO-8601 in UTC: in the order of texts, they are in that of time.
    named = select(*map(as_stored, [*RUNS.c, RUN_NAMES.c.name]))
    wanted = named.select_from(RUNS.outerjoin(RUN_NAMES)).order_by(RUNS.c.created.desc())
    rows = connection.execute(wanted)
    return [read_run(row) for row in rows]


def _values(record: object, names: Sequence[str]) -> dict[str, Any]:
    return {name: getattr(record, name) for name in names}


def _by_voter(prompts: Sequence[PromptRow], parts: Sequence[Part]) -> dict[int, list[Part]]:
    found: dict[int, list[Part]] = {}
    for prompt, part in zip(prompts, parts, strict=True):
        found.setdefault(prompt.voter, []).append(part)
    return found


def _cell_key(cell: tuple[int, int]) -> dict[str, int]:
    prompt_id, attempt = cell
    return {"prompt_id": prompt_id, "attempt": attempt}


def _insert_one(connection: Connection, table: Table, values: Mapping[str, Any]) -> int:
    key: int = connection.execute(insert(table).returning(table.c.id), values).scalar_one()
    return key


def _insert_all(
    connection: Connection, statement: Any, values: Sequence[Mapping[str, Any]]
) -> None:
    if values:  # without any values SQLAlchemy would insert one row of defaults
        connection.execute(statement, values)


def _upsert_cell() -> Insert:
    """One statement for all: a cell that is done is never replaced."""
    new = sqlite_insert(CELLS)
    replaced = {
        column.name: new.excluded[column.name] for column in CELLS.c if not column.primary_key
    }
    return new.on_conflict_do_update(
        index_elements=list(CELLS.primary_key),
        set_=replaced,
        where=CELLS.c.status != "done",
    )


def _update_use(connection: Connection, session_id: int, use: SessionUse) -> None:
    values = asdict(use)
    of_processors = {name: values.pop(name) for name in _PROCESSOR_COLUMNS}
    connection.execute(update_table(SESSIONS).where(SESSIONS.c.id == session_id).values(values))
    new = sqlite_insert(PROCESSOR_USE).values(session_id=session_id, **of_processors)
    connection.execute(new.on_conflict_do_update(index_elements=["session_id"], set_=of_processors))


def _import_values(file: ImportFile, name: str) -> Iterator[dict[str, Any]]:
    """The columns of each test. Ids tell the file: they are the same wherever it is stored."""
    for number, test in enumerate(file.tests, start=1):
        place = f"-{number}" if len(file.tests) > 1 else ""
        yield {
            "import_id": f"{PREFIX}{file.sha256[:_HASH_DIGITS]}{place}",
            "name": name or file.name,
            "file_name": file.name,
            "file_sha256": file.sha256,
            **test.model_dump(),  # JSON is made by the driver, which keeps lone surrogates in keys
        }


def _import(row: Row[Any]) -> ImportRow | StoreError:
    try:
        return read_import(row, _IMPORT_COLUMNS)
    except DamagedError as error:
        return StoreError(
            f"import {row.import_id} cannot be read: {error}",
            remedy="Restore a copy of the results, or import its file into another folder.",
        )
