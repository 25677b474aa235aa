"""`harness list`: what is stored."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias

from harness.cli.console import fail_if_unreadable, give, target, why_unreadable
from harness.cli.options import (
    RESULTS,
    FormatOption,
    JsonOption,
    OutputOption,
    ResultsOption,
)

if TYPE_CHECKING:
    from rich.console import RenderableType

    from harness.errors import StoreError
    from harness.imports.records import ImportRow
    from harness.record import Estimate
    from harness.spec import BaselineSpec, RunSpec
    from harness.store.runs import StoredRun
    from harness.summary import Baseline, RunSummary

_TITLES = ("run\nbegun", "model\ndata, decoding", "voters x\nqueries", "entry and its vote")
_OF_SPEC = ("data", "voters", "decoding")


def list_runs(
    results: ResultsOption = RESULTS,
    format_: FormatOption = None,
    json: JsonOption = False,
    output: OutputOption = None,
) -> None:
    """List the stored runs, groups and imports, the newest first."""
    from harness.imports.records import import_json
    from harness.report.formats import Answer

    wanted = target(format_, json, output)
    rows, imports, damaged = read_rows(results)
    every = [run for row in rows for run in _members(row)]
    data = {
        "runs": list(map(as_json, every)),
        "groups": [group_json(row) for row in rows if isinstance(row, ListedGroup)],
        "imports": list(map(import_json, imports)),
    }
    records = [record for run in every for record in as_records(run)]
    columns = as_records(ListedRun("", "", ""))[0].keys()
    give(Answer(_tables(rows, imports, results), data, records, columns), wanted)
    fail_if_unreadable([*(run.error for run in every if run.error), *damaged])


def _tables(rows: Sequence[Listed], imports: Sequence[ImportRow], results: Path) -> RenderableType:
    """Runs, and below them what other tools have measured."""
    from rich.console import Group

    from harness.report.imports import imports_table
    from harness.report.text import lines

    nothing = lines(f"{results} holds no runs yet. Begin one with `harness run`.")
    runs = runs_table(rows) if rows else nothing
    if not imports:
        return runs
    return Group(runs, "", lines("Imported from other tools:"), imports_table(imports))


def runs_table(rows: Iterable[Listed]) -> RenderableType:
    from harness.report.table import simple_table

    listed = list(rows)
    ends = _ends_of_paths(listed)
    return simple_table(_TITLES, (as_cells(row, ends) for row in listed), whole=_TITLES[:1])


def _ends_of_paths(rows: Iterable[Listed]) -> Mapping[str, str]:
    """Of the data and the models that are listed, as much of each path as tells them apart: a whole
    one may be wider than the table, and would be broken."""
    from harness.report.text import ends_apart

    runs = [run for row in rows for run in _members(row)]
    models = {model for run in runs for _, _, model in run.entries}
    return ends_apart(models) | ends_apart({run.spec.data for run in runs if run.spec})


def _members(row: Listed) -> Sequence[ListedRun]:
    return row.members if isinstance(row, ListedGroup) else (row,)


@dataclass(frozen=True, slots=True)
class ListedRun:
    """A run in the list; `error` says why it could not be read, and `spec` is then `None`.

    `entries` are name, backend and model of each entry, or of each baseline that was wanted.
    `baselines` are those of a run that holds nothing else.
    """

    run_id: str
    created: str
    state: str
    group: str | None = None
    spec: RunSpec | BaselineSpec | None = None
    runs: tuple[RunSummary, ...] = ()
    error: StoreError | None = None
    name: str | None = None
    baselines: tuple[Baseline, ...] = ()
    entries: tuple[tuple[str, str, str], ...] = ()

    @property
    def votes(self) -> dict[str, Estimate | None]:
        """The accuracy of each entry, or baseline, that has come to something."""
        from harness.summary import headline

        entries = {run.entry: headline(run) for run in self.runs}
        return {**entries, **{one.kind: one.estimate for one in self.baselines}}

    @property
    def queries(self) -> int | None:
        """As many as there were; of a run that is not finished, as many as were wanted."""
        if self.baselines:
            return len(self.baselines[0].predictions or ())
        if self.runs:
            return self.runs[0].accuracy.queries
        return self.spec.queries if self.spec else None


@dataclass(frozen=True, slots=True)
class ListedGroup:
    """A group in the list, the newest of its runs first."""

    group: str
    members: tuple[ListedRun, ...]


Listed: TypeAlias = ListedRun | ListedGroup


def read_rows(results: Path) -> tuple[list[Listed], list[ImportRow], list[StoreError]]:
    """What is stored in a folder, the newest first, a group where its newest run stands.

    With it, why the imports that are left out cannot be read.

    Nothing where no run was begun in it yet.
    """
    from harness.store.runs import Results, has_results

    if not has_results(results):
        return [], [], []
    # The space in "group ..." sets the name of a group apart from a run's id.
    rows: dict[str, Listed] = {}
    with Results(results) as stored:
        for run in stored:
            row = read_row(run)
            if run.group is None:
                rows[run.run_id] = row
            else:
                # Runs come newest first, and a dictionary leaves a key at its first place: there
                # the group stands.
                group = rows.get(f"group {run.group}")
                earlier = group.members if isinstance(group, ListedGroup) else ()
                rows[f"group {run.group}"] = ListedGroup(run.group, (*earlier, row))
        return list(rows.values()), stored.imports(), stored.damaged_imports()


def read_row(run: StoredRun) -> ListedRun:
    """One run that cannot be read must not hide the others."""
    if error := why_unreadable(run):
        row = ListedRun(run.run_id, run.created, "unreadable", run.group, error=error)
        return replace(row, name=run.name)
    if not run.is_finished:
        row = ListedRun(run.run_id, run.created, "unfinished", run.group, run.any_spec)
    else:
        runs = tuple(run.summary.runs)
        state = "unfinished" if run.not_fitted else "done"
        row = ListedRun(run.run_id, run.created, state, run.group, run.any_spec, runs)
        if not runs:
            row = replace(row, baselines=tuple(run.summary.baselines))
    return replace(row, name=run.name, entries=_entries_of(run))


def _entries_of(run: StoredRun) -> tuple[tuple[str, str, str], ...]:
    """Names as they are stored: a spec that is shown has no home folders, and names made of its
    models may be others."""
    from harness.spec import BaselineSpec

    if isinstance(run.given, BaselineSpec):
        return tuple((name, "baseline", "") for name in run.given.baseline)
    return tuple((one.name, one.backend, one.model) for one in run.entries.values())


def as_json(row: ListedRun) -> dict[str, Any]:
    return {
        "run_id": row.run_id,
        "created": row.created,
        "name": row.name,
        "group": row.group,
        "state": row.state,
        "backends": list(dict.fromkeys(backend for _, backend, _ in row.entries)),
        "models": list(dict.fromkeys(model for _, _, model in row.entries if model)),
        **{key: getattr(row.spec, key, None) for key in _OF_SPEC},
        "queries": row.queries,
        "accuracy": {name: vote.model_dump() if vote else None for name, vote in row.votes.items()},
    }


def group_json(row: ListedGroup) -> dict[str, Any]:
    return {"group": row.group, "run_ids": [member.run_id for member in row.members]}


def as_records(row: ListedRun) -> list[dict[str, Any]]:
    """The rows of CSV: one for each entry or baseline, or one for a run that cannot be read."""
    from harness.record import Estimate
    from harness.report.formats import flat

    run = {key: value for key, value in as_json(row).items() if not isinstance(value, dict | list)}
    return [
        {
            **run,
            "entry": name,
            "backend": backend,
            "model": model,
            **flat(Estimate, row.votes.get(name), "accuracy."),
        }
        for name, backend, model in row.entries or [("", "", "")]
    ]


def as_cells(row: Listed, ends: Mapping[str, str] = MappingProxyType({})) -> list[str]:
    """The row of a run, or of a group; times are local ones. `ends` has what is shown of paths."""
    from harness.report.figures import MOCK_LABEL
    from harness.spec import RunSpec
    from harness.summary import is_mock

    members = _members(row)
    specs = [member.spec for member in members if member.spec]
    entries = [name for member in members for name, _, _ in member.entries]
    models = (model for member in members for _, _, model in member.entries)
    model = _each_once(ends.get(model, model) or "baselines" for model in models)
    data = _each_once(ends.get(spec.data, spec.data) for spec in specs)
    decoding = _each_once(spec.decoding for spec in specs if isinstance(spec, RunSpec))
    begun = f"{datetime.fromisoformat(members[0].created).astimezone():%Y-%m-%d %H:%M}"
    if isinstance(row, ListedGroup):
        count = f"{len(members):,} {'run' if len(members) == 1 else 'runs'}"
        mocks = (MOCK_LABEL for one in members for run in one.runs if is_mock(run))
        name, votes = f"{row.group}\n{count}, newest\n{begun}", [*entries, *mocks]
        size = ""
    else:
        called = f"{row.name}\n" if row.name else ""
        name, votes = (
            f"{called}{row.run_id}\n{begun}",
            list(_votes(row, entries)),
        )
        voters = f"{row.spec.voters} x\n" if isinstance(row.spec, RunSpec) else ""
        size = f"{voters}{row.queries}" if row.spec else ""
    what = f"{model}\n{', '.join(filter(None, [data, decoding]))}" if specs else ""
    return [name, what, size, "\n".join(dict.fromkeys(votes))]


def _each_once(names: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(names))


def _votes(row: ListedRun, entries: Sequence[str]) -> Iterator[str]:
    from harness.report.figures import MOCK_LABEL
    from harness.report.text import share
    from harness.report.words import headline_share
    from harness.summary import is_mock

    for run in row.runs:
        yield f"{run.entry} {headline_share(run)}" + f"\n{MOCK_LABEL}" * is_mock(run)
    yield from (f"{one.kind} {share(one.estimate)}" for one in row.baselines)
    if row.state != "done":
        left = [name for name in entries if name not in row.votes]
        yield f"{', '.join(left)}: {row.state}" if left else row.state
