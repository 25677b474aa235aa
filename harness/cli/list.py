"""`harness list`: what was kept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.cli.console import give
from harness.cli.kept import has_store, open_store, read_spec, read_summary
from harness.cli.options import RESULTS, JsonOption, ResultsOption
from harness.errors import StoreError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from harness.imports.records import ImportRow
    from harness.spec import RunSpec
    from harness.store.schema import RunRow
    from harness.summary import RunSummary

_TITLES = ("run\nbegun", "model\ndata, decoding", "voters x\nqueries", "backend and its vote")
_ASKED = ("model", "data", "voters", "decoding")


def list_runs(results: ResultsOption = RESULTS, json: JsonOption = False) -> None:
    """List the kept runs and imports, the newest first."""
    from harness.imports.records import import_json

    entries, imports = read_entries(results), read_imports(results)
    listed = [*map(as_json, entries), *map(import_json, imports)]
    give(listed, _tables(entries, imports, results), json)


def _tables(
    entries: Sequence[Entry], imports: Sequence[ImportRow], results: Path
) -> RenderableType:
    """Runs, and below them what other tools have measured."""
    from rich.console import Group

    from harness.report.imports import imports_table
    from harness.report.table import simple_table
    from harness.report.text import lines

    nothing = lines(f"{results} holds no runs yet. Begin one with `harness run`.")
    runs = simple_table(_TITLES, map(as_cells, entries)) if entries else nothing
    if not imports:
        return runs
    return Group(runs, "", lines("Imported from other tools:"), imports_table(imports))


@dataclass(frozen=True, slots=True)
class Entry:
    """A run in the list; `spec` is null where another version of the harness kept it."""

    run_id: str
    created: str
    state: str
    spec: RunSpec | None = None
    runs: tuple[RunSummary, ...] = ()

    @property
    def queries(self) -> int | None:
        """As many as there were to ask; of a run that is not finished, as many as were wanted."""
        if self.runs:
            return self.runs[0].accuracy.queries
        return self.spec.queries if self.spec else None


def read_entries(results: Path) -> list[Entry]:
    """What is kept in a folder; nothing where no run was begun in it yet."""
    if not has_store(results):
        return []
    with open_store(results) as store:
        return [read_entry(row) for row in store.runs()]


def read_imports(results: Path) -> list[ImportRow]:
    if not has_store(results):
        return []
    with open_store(results) as store:
        return store.imports()


def read_entry(row: RunRow) -> Entry:
    """One run that cannot be read must not hide the others."""
    try:
        spec, summary = read_spec(row), read_summary(row)
    except StoreError:
        return Entry(row.run_id, row.created, "unreadable")
    if summary is None:
        return Entry(row.run_id, row.created, "unfinished", spec)
    return Entry(row.run_id, row.created, "done", spec, tuple(summary.runs))


def as_json(entry: Entry) -> dict[str, Any]:
    from harness.summary import headline

    asked = {key: getattr(entry.spec, key, None) for key in _ASKED}
    votes = {run.backend: headline(run) for run in entry.runs}
    return {
        "kind": "run",
        "run_id": entry.run_id,
        "created": entry.created,
        "state": entry.state,
        "backends": list(entry.spec.backend) if entry.spec else [],
        **asked,
        "queries": entry.queries,
        "accuracy": {name: vote.model_dump() if vote else None for name, vote in votes.items()},
    }


def as_cells(entry: Entry) -> list[str]:
    """The row of a run; times are local ones."""
    begun = datetime.fromisoformat(entry.created).astimezone()
    spec = entry.spec
    return [
        f"{entry.run_id}\n{begun:%Y-%m-%d %H:%M}",
        f"{spec.model}\n{spec.data}, {spec.decoding}" if spec else "",
        f"{spec.voters} x\n{entry.queries}" if spec else "",
        "\n".join(_votes(entry)),
    ]


def _votes(entry: Entry) -> Iterator[str]:
    from harness.report.figures import MOCK_LABEL
    from harness.report.text import share
    from harness.summary import headline, is_mock

    for run in entry.runs:
        yield f"{run.backend} {share(headline(run))}" + f"\n{MOCK_LABEL}" * is_mock(run)
    if entry.state != "done":
        yield f"{', '.join(entry.spec.backend)}: {entry.state}" if entry.spec else entry.state
