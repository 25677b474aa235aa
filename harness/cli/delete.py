"""`harness delete`: removes runs, groups or imports, for good."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.console import remarks, tell
from harness.cli.options import RESULTS, RUN_HELP, ResultsOption
from harness.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from harness.store.runs import Results, StoredRun


def delete(
    what: Annotated[
        str,
        typer.Argument(
            metavar="RUN",
            help=f"It is {RUN_HELP}, the name of a group, or the id of an import.",
        ),
    ],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Delete without a question.")] = False,
    results: ResultsOption = RESULTS,
) -> None:
    """Delete a run, all runs of a group, or an import. It cannot be undone.

    Shows what is deleted and waits for a yes. A run that is being prompted is not deleted. Engine
    logs go with the last run that has an entry of their name, and checkpoints of trained baselines
    with the last run that lacks these.
    """
    from harness.imports.records import PREFIX
    from harness.pipeline.baselines import remove_unwanted
    from harness.store.lock import is_any_prompted, prompting
    from harness.store.runs import Results
    from harness.store.store import Store

    with Results(results) as stored, ExitStack() as locks:
        if what.startswith(PREFIX):
            _delete_import(stored, what, yes, results)
            return
        runs = stored.group(what) if stored.is_group(what) else [stored.run(what)]
        ids = [run.run_id for run in runs]
        for run_id in ids:
            locks.enter_context(prompting(results, run_id))
        with Store(results) as store:
            replies = sum(store.size(ids).values())
            _show(stored, runs, replies)
            _confirm(f"Delete {_count(len(ids), 'run')} for good?", yes)
            before, names = _bytes(store.path), store.entry_names()
            store.delete_runs(ids)
            _delete_logs(results, names - store.entry_names())
            remove_unwanted(store)
            locks.close()
            if not is_any_prompted(results):  # who is timed must not wait for the file
                store.give_back_space()
    freed = max(before - _bytes(store.path), 0)
    typer.echo(
        f"Deleted {_count(len(ids), 'run')} with {_count(replies, 'cell')}; "
        f"the file is {freed / 2**20:.1f} MiB smaller."
    )


def _delete_import(stored: Results, what: str, yes: bool, results: Path) -> None:
    from harness.report.imports import imports_table
    from harness.store.store import Store

    row = stored.imported(what)
    remarks().print(imports_table([row]))
    _confirm("Delete this import for good?", yes)
    with Store(results) as store:
        store.delete_import(row.import_id)
    typer.echo(f"Deleted {row.import_id}.")


def _show(stored: Results, runs: Sequence[StoredRun], replies: int) -> None:
    """What is about to be deleted, and who will miss it."""
    from harness.cli.list import read_row, runs_table
    from harness.spec import RunSpec

    remarks().print(runs_table(map(read_row, runs)))
    ids = {run.run_id for run in runs}
    tell(f"With {_count(replies, 'cell')}, all prompts, and what was measured.")
    for run in stored:
        row = read_row(run)
        is_open = row.state == "unfinished"
        needs = row.spec.prompts_from if isinstance(row.spec, RunSpec) and is_open else None
        if needs in ids and row.run_id not in ids:
            tell(f"note: {row.run_id} uses these prompts: it cannot be completed afterwards.")


def _confirm(question: str, yes: bool) -> None:
    if yes:
        return
    try:
        agreed = typer.confirm(question, err=True)
    except typer.Abort as error:  # no answer can come
        tell("")  # the question's line has no end yet
        raise UsageError(
            "nothing was deleted: there was no answer",
            remedy="Give --yes to delete without a question.",
        ) from error
    if not agreed:
        tell("Nothing was deleted.")
        raise typer.Exit(1)


def _delete_logs(results: Path, names: set[str]) -> None:
    """Of entries that no run has any more."""
    from harness.engine.logs import log_files
    from harness.spec import safe_name

    for name in names:
        if name == safe_name(name):  # a name out of a damaged file could be a path
            for path in log_files(results / "logs", name):
                path.unlink(missing_ok=True)


def _bytes(path: Path) -> int:
    return path.stat().st_size


def _count(count: int, one: str) -> str:
    return f"{count:,} {one if count == 1 else one + 's'}"
