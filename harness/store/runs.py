"""A stored run, as everyone else sees it: read from the store, each part when it is first used.

    with Results("results") as results:
        for run in results:                  # the newest first
            print(run.run_id, run.any_spec.data, run.is_finished)
        entry, = results.entries("latest:llama-cpp")
        print(entry.summary.accuracy.majority, entry.tokens[0].n_tokens)

A run that cannot be read raises `StoreError` from the property that does not fit, and never hides
another run.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeAlias, TypeVar

from pydantic import ValidationError
from pydantic_core import from_json

from harness.contract import Reply, SessionInfo
from harness.errors import StoreError, UsageError
from harness.imports.records import PREFIX, ImportRow
from harness.machine.environment import Environment
from harness.machine.homes import without_home, without_homes
from harness.spec import BaselineSpec, RunSpec, safe_name
from harness.store.names import LATEST, NEAR_RUNS
from harness.store.replies import ReplyRecord, as_row, columns_of, records_of
from harness.store.rows import DamagedError
from harness.store.schema import (
    MOST,
    RECORDS_VERSION,
    BatchRow,
    CellRow,
    EntryRow,
    PromptRow,
    RunRow,
    SessionRow,
    TokensRow,
)
from harness.store.store import (
    FILE_NAME,
    Answered,
    Store,
    written_by_newer,
)
from harness.store.upgrade import renamed, upgrade_summary
from harness.summary import Baseline, Facts, Queries, RunSummary, Summary

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

RESULTS = Path("results")
"""The folder that is meant where none is given."""

_Found = TypeVar("_Found")


class StoredRun:
    """One run. Properties raise `StoreError` where the run cannot be read."""

    def __init__(self, store: Store, row: RunRow) -> None:
        self._store = store
        self._row = row

    def __repr__(self) -> str:
        return f"<StoredRun {self.run_id}>"

    @property
    def run_id(self) -> str:
        return self._row.run_id

    @property
    def created(self) -> str:
        """ISO-8601 in UTC."""
        return self._row.created

    @property
    def name(self) -> str | None:
        """What the user called it, if anything."""
        return self._row.name

    @property
    def group(self) -> str | None:
        return self._row.group

    @property
    def data_sha256(self) -> str | None:
        """The identity of the data, `None` in runs stored before it was."""
        return self._row.data_sha256

    @property
    def is_finished(self) -> bool:
        return self._row.summary is not None

    @property
    def not_fitted(self) -> list[str]:
        """What a run of baselines has no result of yet, by name."""
        if not isinstance(self.given, BaselineSpec):
            return []
        done = {one.kind for one in self.summary.baselines} if self.is_finished else ()
        return [name for name in self.given.baseline if name not in done]

    @property
    def resume_command(self) -> str:
        """The command that completes the run."""
        return resume_command(self._store.path.parent, self.run_id)

    @cached_property
    def any_spec(self) -> RunSpec | BaselineSpec:
        """The spec of either kind of run, to be shown: with `~` in place of home folders, which
        tell whose they are."""
        with _reading(self._row):
            kind = type(self.given)
            shown = without_homes(self.given.model_dump(exclude_unset=True))
            return kind.model_validate(shown)

    @cached_property
    def spec(self) -> RunSpec:
        """`any_spec` of a run of engines. Raises `StoreError` where only baselines were fitted."""
        return self._of_engines(self.any_spec)

    @cached_property
    def given_spec(self) -> RunSpec:
        """`given` of a run of engines, to be run again."""
        return self._of_engines(self.given)

    @cached_property
    def given(self) -> RunSpec | BaselineSpec:
        """`any_spec` as it was given, with paths as they are."""
        with _reading(self._row):
            record = from_json(self._row.spec)
            is_of_baselines = isinstance(record, dict) and "baseline" in record
            kind = BaselineSpec if is_of_baselines else RunSpec
            return kind.model_validate_json(self._row.spec)

    def _of_engines(self, spec: RunSpec | BaselineSpec) -> RunSpec:
        if isinstance(spec, BaselineSpec):
            raise StoreError(
                f"run {self.run_id} is of baselines: nothing was prompted in it",
                remedy="Name a run of engines: `harness list` shows which there are.",
            )
        return spec

    @cached_property
    def environment(self) -> Environment:
        with _reading(self._row):
            return Environment.model_validate_json(self._row.environment)

    @property
    def max_tokens(self) -> int | None:
        """The most tokens of a reply: what was given, else what the default came to; `None` in runs
        stored before that was."""
        return self.spec.max_tokens or (self.facts.reserve if self.facts else None)

    @property
    def chat_template(self) -> str | None:
        """The text of the file that --chat-template named, as it was then."""
        found = self.facts and self.facts.chat_template
        return found.source if found else None

    @cached_property
    def environments(self) -> list[Environment]:
        """That of the run's beginning, and those of sessions that were opened in another."""
        with _reading(self._row):
            others = [
                Environment.model_validate_json(session.environment)
                for entry in self.entries.values()
                for session in entry.sessions
                if session.environment is not None
            ]
            return [self.environment, *others]

    @cached_property
    def facts(self) -> Facts | None:
        """What packing measured; `None` in runs stored before it was, and before prompts are."""
        with _reading(self._row):
            if self._row.facts is None:
                return None
            # a run of before version 3 that was resumed since has the facts of then
            facts = Facts.model_validate(renamed(from_json(self._row.facts)))
            _check_facts(facts)
            for name, entry in self.entries.items():
                if entry.vocabulary is not None and name not in facts.tokens:
                    raise DamagedError(f"facts.tokens: nothing of the entry {name}")
            return facts

    @cached_property
    def summary(self) -> Summary:
        """The answer of the run. Raises `StoreError` where it is not finished, too."""
        if self._row.summary is None:
            if isinstance(self.given, BaselineSpec):
                show = f"harness show {self.run_id} --command"
                raise StoreError(
                    f"run {self.run_id} was ended before a baseline was fitted",
                    remedy="Give its command again, which goes on with it: "
                    f"`{show}{results_flag(self._store.path.parent)}` prints it.",
                )
            raise StoreError(
                f"run {self.run_id} is not finished; what it has done is stored",
                remedy=f"Complete it with `{self.resume_command}`.",
            )
        with _reading(self._row):
            # `from_json` raises `ValueError` for deep nesting, as for all other damage;
            # `json.loads` does not.
            record, spec = from_json(self._row.summary), json.loads(self._row.spec)
            upgraded = upgrade_summary(record, spec, self._row.records_version)
            summary = Summary.model_validate(without_homes(upgraded))
            _check_sizes(upgraded)
            if isinstance(self.given, BaselineSpec) != (summary.queries is not None):
                raise DamagedError("summary.queries: not as its spec has it")
            if summary.queries is not None:
                _check_labels(summary.queries.labels, summary.queries, "summary.queries")
                if not (summary.queries.rows and summary.baselines):
                    raise DamagedError("summary.queries, summary.baselines: nothing there")
            for one in summary.runs:
                _check_summary(one, self.facts)
            # One that was imported may have another name here than where it was made.
            return summary.model_copy(update={"name": self.name, "group": self.group})

    def check(self) -> None:
        """Reads all but prompts and replies. Raises `StoreError` where any of it cannot be read."""
        _ = self.any_spec, self.environment, self.facts, self.is_finished and self.summary
        _ = [entry.sessions for entry in self.entries.values()]

    def check_prompted(self) -> None:
        """Reads what was prompted and replied, too."""
        self.check()
        _ = self.prompts, [entry.cells for entry in self.entries.values()]

    @cached_property
    def prompts(self) -> list[PromptRow]:
        """In the order in which they were saved. Their voters, positions and classes are counted
        from 0, each without a gap."""
        with _reading(self._row):
            prompts = self._store.prompts(self.run_id)
            _check_places(prompts, None if self.facts is None else len(self.facts.classes))
            return prompts

    @cached_property
    def texts(self) -> list[str] | None:
        """The text of each prompt; `None` in runs stored before texts were."""
        with _reading(self._row):
            return self._store.prompt_texts(self.run_id)

    @cached_property
    def classes(self) -> list[str]:
        """The names of the classes; their numbers, in an unfinished run stored before `facts`."""
        if self.facts is not None:
            return self.facts.classes
        if self.is_finished:
            queries, runs = self.summary.queries, self.summary.runs
            return queries.classes if queries else runs[0].accuracy.classes
        return [str(label) for label in range(1 + max((p.label for p in self.prompts), default=0))]

    @cached_property
    def entries(self) -> dict[str, StoredEntry]:
        """By name, in the order of the run."""
        with _reading(self._row):
            return {row.name: StoredEntry(self, row) for row in self._store.entries(self.run_id)}

    def entry(self, name: str) -> StoredEntry:
        """Raises `StoreError` where the run has none of this name."""
        if name not in self.entries:
            raise StoreError(
                f"run {self.run_id} has no entry {name!r}",
                remedy=f"It has: {', '.join(self.entries)}.",
            )
        return self.entries[name]

    @cached_property
    def baselines(self) -> list[Baseline]:
        """Those stored with the run, or with its summary in older runs; none before they are."""
        with _reading(self._row):
            stored = self._store.baselines(self.run_id)
        return stored or (self.summary.baselines if self.is_finished else [])

    @cached_property
    def label_words(self) -> list[str] | None:
        """The word of each class in the prompts; `None` in an unfinished run stored before
        `facts`."""
        if self.facts is not None:
            return self.facts.label_words
        runs = self.summary.runs if self.is_finished else []
        return runs[0].label_words if runs else None

    @cached_property
    def queries(self) -> Queries:
        """The rows of the test split that were classified, in the order of their positions."""
        stored = self.summary.queries if self.is_finished else None
        if stored is not None:
            return stored
        # All voters get the same.
        every = {one.position: one for one in self.prompts if one.role == "query"}
        ordered = [every[position] for position in sorted(every)]
        return Queries(
            classes=self.classes,
            rows=[one.row for one in ordered],
            labels=[one.label for one in ordered],
        )

    @cached_property
    def fitted(self) -> dict[str, StoredBaseline]:
        """The baselines with predictions by name, of a run of baselines or of engines."""
        with _reading(self._row):
            having = (one for one in self.baselines if one.predictions is not None)
            every = [StoredBaseline(self, one) for one in having]
            return {one.name: one for one in every}

    @property
    def sides(self) -> list[StoredEntry] | list[StoredBaseline]:
        """What of it is compared: of engines the entries, of baselines each."""
        if isinstance(self.any_spec, RunSpec):
            return list(self.entries.values())
        _ = self.summary  # says so where none was stored
        return list(self.fitted.values())

    def side(self, name: str) -> StoredEntry | StoredBaseline:
        """An entry, or a baseline of either kind of run. Raises `StoreError` where there is none of
        this name."""
        if name in self.entries:
            return self.entries[name]
        if name in self.fitted:
            return self.fitted[name]
        has = ", ".join([*self.entries, *self.fitted])
        raise StoreError(
            f"run {self.run_id} has no entry or baseline {name!r}", remedy=f"It has: {has}."
        )

    def replies(self) -> Iterator[ReplyRecord]:
        """One record for each cell, by entry, prompt and attempt, read one after the other. Open
        cells are left out."""
        for entry in self.entries.values():
            yield from entry.records()

    def frame(self) -> pd.DataFrame:
        """`replies` as a table of one row per cell, each class's log-probability in a column of
        its own, `logprob_CLASS`. Whatever is `None` is missing there."""
        import pandas as pd

        columns = columns_of(self.classes)
        # Columns have one type, whether or not a cell has failed. Values of "Int64" can be missing.
        kinds = {int: "Int64", float: "float64"}
        types = {name: kinds[kind] for name, kind in columns.items() if kind in kinds}
        return pd.DataFrame(map(as_row, self.replies()), columns=list(columns)).astype(types)


class StoredEntry:
    """One entry of a run: what its backend was given, and what it answered."""

    def __init__(self, run: StoredRun, row: EntryRow) -> None:
        self.run = run
        self._row = row

    def __repr__(self) -> str:
        return f"<StoredEntry {self.run.run_id}:{self.name}>"

    @property
    def name(self) -> str:
        return self._row.name

    @property
    def backend(self) -> str:
        return self._row.backend

    @property
    def model(self) -> str:
        """With `~` in place of a home folder."""
        return without_home(self._row.model)

    @property
    def vocabulary(self) -> str | None:
        """The hash of the tokens that it is given; `None` where its tokenizer could not be opened,
        or the run ended before."""
        return self._row.vocabulary

    @cached_property
    def tokens(self) -> list[TokensRow]:
        """Of each prompt, in the order of `StoredRun.prompts`; empty where there are none."""
        if self.vocabulary is None:
            return []
        with _reading(self.run._row):
            tokens = self.run._store.prompt_tokens(self.run.run_id, self.vocabulary)
            prompts = len(self.run.prompts)
            if len(tokens) not in (0, prompts):
                raise DamagedError(f"prompt_tokens: {len(tokens)} for {prompts} prompts")
            return tokens

    @cached_property
    def token_ids(self) -> list[NDArray[np.int32]] | None:
        """Of each prompt; `None` in runs stored before ids were."""
        if self.vocabulary is None:
            return None
        with _reading(self.run._row):
            return self.run._store.prompt_ids(self.run.run_id, self.vocabulary)

    @cached_property
    def cells(self) -> list[CellRow]:
        """In the order of prompts, then attempts; open ones are left out."""
        with _reading(self.run._row):
            cells = self.run._store.cells(self.run.run_id, self.name)
            for cell in cells:
                self._check(cell)
            return cells

    def records(self) -> Iterator[ReplyRecord]:
        """One for each cell, in the order of `cells`, without holding all of them."""
        with _reading(self.run._row):
            answers = self.run._store.answers(self.run.run_id, self.name, self.vocabulary)
            yield from records_of(self, map(self._checked, answers))

    def _checked(self, answer: Answered) -> tuple[PromptRow, CellRow, str | None]:
        prompt, cell, tokens = answer
        self._check(cell)
        return prompt, cell, tokens.token_sha256 if tokens else None

    def _check(self, cell: CellRow) -> None:
        """What one row cannot show by itself; `harness.store.rows` checks the rest."""
        if cell.batch_id is not None and cell.batch_id not in self._batch_ids:
            raise DamagedError(f"cells.batch_id: {cell.batch_id} is no batch of the entry")
        if cell.attempt >= self.run.spec.attempts:
            raise DamagedError(f"cells.attempt: {cell.attempt} is not one of the run")
        facts, logprobs = self.run.facts, cell.reply.label_logprobs if cell.reply else None
        if facts and logprobs is not None and len(logprobs) != len(facts.classes):
            raise DamagedError(f"cells.label_logprobs: {len(logprobs)}, not one a class")

    @cached_property
    def _batch_ids(self) -> set[int]:
        return {batch.id for batch in self.batches}

    @cached_property
    def batches(self) -> list[BatchRow]:
        """Over all sessions, in the order in which they were stored."""
        with _reading(self.run._row):
            return self.run._store.batches(self.run.run_id, self.name)

    @property
    def batch_sizes(self) -> dict[int, int]:
        """How many cells each batch has answered, by its id; what these hold is not read."""
        with _reading(self.run._row):
            return self.run._store.batch_sizes(self.run.run_id, self.name)

    @property
    def longest_prompt(self) -> int:
        """In tokens; 0 where they are not stored. The other prompts are not read."""
        if self.vocabulary is None:
            return 0
        with _reading(self.run._row):
            return self.run._store.longest_prompt(self.run.run_id, self.vocabulary)

    @cached_property
    def sessions(self) -> list[SessionRow]:
        """The oldest first."""
        with _reading(self.run._row):
            sessions = self.run._store.sessions(self.run.run_id, self.name)
            for session in sessions:
                if session.environment is not None:
                    Environment.model_validate_json(session.environment)
            return sessions

    @cached_property
    def replies(self) -> dict[tuple[int, int], Reply]:
        """By the index of the prompt in `StoredRun.prompts` and the attempt."""
        places = {prompt.id: index for index, prompt in enumerate(self.run.prompts)}
        return {
            (places[cell.prompt_id], cell.attempt): cell.reply
            for cell in self.cells
            if cell.reply is not None
        }

    @property
    def summary(self) -> RunSummary:
        """Raises `StoreError` where the run is not finished."""
        for one in self.run.summary.runs:
            if one.entry == self.name:
                return one
        raise _unreadable(self.run._row, f"its summary lacks the entry {self.name}")

    @property
    def info(self) -> SessionInfo | None:
        """Of the last session; `None` where none was opened."""
        return self.sessions[-1].info if self.sessions else None


@dataclass(frozen=True, slots=True)
class StoredBaseline:
    """A baseline of a run, with a prediction for each of the run's queries."""

    run: StoredRun
    record: Baseline

    @property
    def name(self) -> str:
        """As `harness baseline` calls it; of runs stored before that was, its title as a name."""
        return self.record.kind or safe_name(self.record.name)

    @property
    def predictions(self) -> dict[int, str]:
        """The class that it gives each query, by row of the test split."""
        queries, labels = self.run.queries, self.record.predictions or ()
        with _reading(self.run._row):
            _check_labels(labels, queries, f"the baseline {self.name}")
        return {
            row: queries.classes[label] for row, label in zip(queries.rows, labels, strict=True)
        }


Side: TypeAlias = StoredEntry | StoredBaseline | ImportRow
"""What can be compared: an entry of a run, a baseline, or what another tool has measured."""


class Results:
    """Everything in a results folder, to be read. Iterating gives every run, the newest first.

    It need not be closed: that is done when it is no longer used. Raises `StoreError` where the
    folder holds no results; reading makes none.
    """

    def __init__(self, folder: Path | str = RESULTS) -> None:
        if not has_results(Path(folder)):
            raise StoreError(
                f"{folder} holds no runs",
                remedy="Begin one with `harness run`, or give the folder with --results.",
            )
        self._store = Store(Path(folder), to_read=True)

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
        self._store.close()

    def __iter__(self) -> Iterator[StoredRun]:
        return (StoredRun(self._store, row) for row in self._store.runs())

    def run(self, wanted: str) -> StoredRun:
        """The run of this id or name, the only one whose id begins so, or of "latest" the newest
        that is in no group."""
        name, _, entry = wanted.partition(":")
        if entry:
            raise StoreError(
                f"{wanted} names one entry, and a whole run is wanted here",
                remedy=f"Give {name}. `harness compare` takes entries.",
            )
        if self.is_group(wanted):
            ids = [run.run_id for run in self.group(wanted)]
            raise StoreError(
                f"{wanted} is a group of {len(ids)} runs",
                remedy=f"Give one of them: {', '.join(ids[-NEAR_RUNS:])}.",
            )
        return StoredRun(self._store, self._store.run(wanted))

    def entries(self, wanted: str) -> list[StoredEntry]:
        """The entries that `RUN` or `RUN:ENTRY` names.

        RUN is as in `run`, but for `latest:ENTRY`: the newest finished run in no group that has it.
        """
        name, _, entry = wanted.partition(":")
        if not entry:
            run = self.run(name)
            _ = run.spec  # a run of baselines has no entries, and says so
            return list(run.entries.values())
        if name != LATEST:
            return [self.run(name).entry(entry)]
        return [self._latest(entry, StoredRun.entry, "entry")]

    def sides(self, wanted: str) -> Sequence[StoredEntry | StoredBaseline]:
        """What `RUN` or `RUN:NAME` names: of engines the entries, of baselines each; by its name
        one entry, or one baseline of either kind of run."""
        name, _, side = wanted.partition(":")
        if name == LATEST and side:
            return [self._latest(side, StoredRun.side, "entry or baseline")]
        run = self.run(name)
        if not side:
            return run.sides
        return [run.side(side)]

    def _latest(self, name: str, of: Callable[[StoredRun, str], _Found], what: str) -> _Found:
        """That of the newest finished run in no group that has it."""
        for run in self:
            if run.group is None and run.is_finished:
                with suppress(StoreError):  # it has none, or cannot be read and hides no other
                    return of(run, name)
        raise StoreError(
            f"no finished run has the {what} {name!r}",
            remedy="`harness list` shows which there are.",
        )

    def groups(self) -> dict[str, list[StoredRun]]:
        """The runs of each group, the oldest first; the group with the newest run first."""
        found: dict[str, list[StoredRun]] = {}
        for run in self:
            if run.group is not None:
                found.setdefault(run.group, []).insert(0, run)
        return found

    def is_group(self, wanted: str) -> bool:
        """Whether this names a group: exactly, and it is no run's id."""
        groups = self._store.groups()
        return wanted in groups.values() and wanted not in groups

    def group(self, name: str) -> list[StoredRun]:
        """The runs of a group, the oldest first. Raises `StoreError` where there is none."""
        groups = self.groups()
        if name in groups:
            return groups[name]
        raise StoreError(
            f"{self._store.path} holds no group {name!r}.",
            remedy=f"It holds: {', '.join(groups)}." if groups else "It holds no groups at all.",
        )

    def imports(self) -> list[ImportRow]:
        """Every import that can be read, the newest first."""
        return self._store.imports()

    def damaged_imports(self) -> list[StoreError]:
        """Why the others cannot be."""
        return self._store.damaged_imports()

    def imported(self, wanted: str) -> ImportRow:
        """The import of this id, or the only one whose id begins so."""
        return self._store.imported(wanted)


def resume_command(folder: Path, run_id: str) -> str:
    """The command that completes a run."""
    return f"harness run --resume {run_id}{results_flag(folder)}"


def results_flag(folder: Path) -> str:
    """What a command needs to find this folder."""
    return "" if folder == RESULTS else f" --results {shlex.quote(str(folder))}"


def has_results(folder: Path) -> bool:
    """Whether anything was ever stored there."""
    return (folder / FILE_NAME).exists()


def sides(
    wanted: Sequence[str | StoredRun | StoredEntry | StoredBaseline],
    results: Results | None = None,
) -> list[Side]:
    """What is to be compared, each once and in order: entries of runs, baselines, or imports.

    Names are read from `results`. Raises `StoreError` where a name is not found and `UsageError`
    where there is nothing to compare with.
    """
    # An entry of an earlier version may be called like a baseline of its run.
    found: dict[tuple[str, str, bool], Side] = {}
    for one in wanted:
        entries: Sequence[StoredEntry | StoredBaseline]
        if isinstance(one, StoredEntry | StoredBaseline):
            entries = [one]
        elif isinstance(one, StoredRun):
            entries = one.sides
        elif results is None:
            raise UsageError(f"{one!r} is a name", remedy="Give the results that it is from.")
        elif one.startswith(PREFIX):
            row = results.imported(one)
            found.setdefault((row.import_id, "", False), row)
            continue
        else:
            entries = results.sides(one)
        for entry in entries:
            is_baseline = isinstance(entry, StoredBaseline)
            found.setdefault((entry.run.run_id, entry.name, is_baseline), entry)
    if len(found) < 2:
        raise UsageError(
            "a comparison takes two runs or more, or one with several entries or baselines",
            remedy="`harness list` shows which there are.",
        )
    return list(found.values())


def _check_facts(facts: Facts) -> None:
    classes = len(facts.classes)
    if not classes or len(facts.label_words) != classes or not all(facts.label_words):
        raise DamagedError("facts.label_words: not one for each class")
    if any(len(labels) != classes or not all(labels) for labels in facts.labels.values()):
        raise DamagedError("facts.labels: not one for each class")
    if not facts.examples_available or not facts.calibration or facts.limit < 1:
        raise DamagedError("facts.examples_available, calibration or limit: nothing there")


def _check_summary(one: RunSummary, facts: Facts | None) -> None:
    named = {"majority", "soft", "calibrated"}
    if one.accuracy.headline not in named:
        raise DamagedError(f"summary.accuracy.headline: {one.accuracy.headline} is no vote")
    if len(one.label_words) != len(one.accuracy.classes) or not all(one.label_words):
        raise DamagedError("summary.label_words: not one for each class")
    if facts is not None and one.accuracy.classes != facts.classes:
        raise DamagedError("summary.accuracy.classes: not those of the data")
    if not one.context_fit.examples_per_voter:
        raise DamagedError("summary.context_fit.examples_per_voter: nothing there")


def _check_labels(labels: Sequence[int], queries: Queries, where: str) -> None:
    if len(labels) != len(queries.rows):
        raise DamagedError(f"{where}: {len(labels)} classes for {len(queries.rows)} queries")
    if not all(0 <= label < len(queries.classes) for label in labels):
        raise DamagedError(f"{where}: not all are classes")


def _check_sizes(record: object, name: str = "summary") -> None:
    """Raises `DamagedError` where a number is so large that figures made of it are infinite."""
    if isinstance(record, dict):
        for key, value in record.items():
            _check_sizes(value, f"{name}.{key}")
    elif isinstance(record, list):
        for value in record:
            _check_sizes(value, name)
    elif isinstance(record, int | float) and abs(record) > MOST:
        raise DamagedError(f"{name}: {record} is too large")


def _check_places(prompts: Sequence[PromptRow], classes: int | None) -> None:
    """Raises `DamagedError` where prompts are missing, or stand where none can be."""
    voters = {prompt.voter for prompt in prompts}
    # Different numbers from 0 on: the largest is one less than their count unless one is missing.
    if voters and max(voters) >= len(voters):
        raise DamagedError(f"prompts.voter: {max(voters)} is not one of {len(voters)}")
    positions: dict[tuple[int, str], list[int]] = {}
    for prompt in prompts:
        positions.setdefault((prompt.voter, prompt.role), []).append(prompt.position)
        if classes is not None and prompt.label >= classes:
            raise DamagedError(f"prompts.label: {prompt.label} is not one of {classes}")
    # The same for these: the table has each position once.
    for (voter, role), own in positions.items():
        if max(own) >= len(own):
            raise DamagedError(f"prompts.position: {max(own)} is not one of {len(own)}")
        if role == "shuffled" and len(own) != len(positions.get((voter, "query"), [])):
            raise DamagedError(f"prompts.role: voter {voter} has not each query shuffled")


@contextmanager
def _reading(row: RunRow) -> Iterator[None]:
    """Turns what a run of another version, or a damaged one, raises into a `StoreError`."""
    try:
        if row.damage is not None:
            raise DamagedError(row.damage)
        if row.records_version > RECORDS_VERSION:
            raise written_by_newer(f"run {row.run_id}")
        yield
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or error.title
        raise _unreadable(row, f"{place}: {first['msg']}") from error
    # What code raises at a record that is not built as it should be, such as `upgrade_summary`.
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise _unreadable(row, error) from error


def _unreadable(row: RunRow, why: object) -> StoreError:
    return StoreError(
        f"run {row.run_id} cannot be read: {why}",
        remedy="Restore a copy of the results, or read another run: `harness list` shows them.",
    )
