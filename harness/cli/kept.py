"""Runs as they were kept, read back."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from harness.cli.console import answers
from harness.cli.options import RESULTS
from harness.errors import StoreError, UsageError

if TYPE_CHECKING:
    from harness.comparison.records import Agreement
    from harness.machine.environment import Environment
    from harness.report.answer import Kept
    from harness.spec import RunSpec
    from harness.store.schema import RunRow
    from harness.store.store import Store
    from harness.summary import Summary


def has_store(results: Path) -> bool:
    from harness.store.store import FILE_NAME

    return (results / FILE_NAME).is_file()


def open_store(results: Path) -> Store:
    """The store of a folder that has one: reading makes no new one. Raises `StoreError`."""
    from harness.store.store import Store

    if not has_store(results):
        raise StoreError(
            f"{results} holds no runs",
            remedy="Begin one with `harness run`, or give the folder with --results.",
        )
    return Store(results)


def read_kept(row: RunRow, results: Path) -> Kept:
    """A finished run. Raises `StoreError` where it is not finished or cannot be read."""
    from harness.report.answer import Kept

    summary = read_summary(row)
    if summary is None:
        raise StoreError(
            f"run {row.run_id} is not finished; what it has done is kept",
            remedy=resume_command(row.run_id, results),
        )
    return Kept(read_spec(row), summary)


def choose(store: Store, wanted: str, results: Path) -> tuple[Kept, Sequence[str]]:
    """The run that `RUN`, `RUN:BACKEND` or `latest:BACKEND` names, and those of its backends that
    are meant. Raises `StoreError`."""
    run, _, backend = wanted.partition(":")
    newest = _newest_with(store, backend) if backend and run == "latest" else store.run(run)
    kept = read_kept(newest, results)
    backends = [one.backend for one in kept.summary.runs]
    if not backend:
        return kept, backends
    if backend not in backends:
        raise StoreError(
            f"run {newest.run_id} has no backend {backend!r}",
            remedy=f"It has: {', '.join(backends)}.",
        )
    return kept, [backend]


def _newest_with(store: Store, backend: str) -> RunRow:
    """The newest finished run that has this backend. Raises `StoreError`."""
    for row in store.runs():
        if row.summary is not None and backend in json.loads(row.spec).get("backend", ()):
            return row
    raise StoreError(
        f"no finished run has the backend {backend!r}",
        remedy="`harness list` shows which there are.",
    )


def read_spec(row: RunRow) -> RunSpec:
    """What a run was asked to do. Raises `StoreError`."""
    from harness.spec import parse_spec

    try:
        return parse_spec(json.loads(row.spec), where="its spec")
    except UsageError as error:
        raise _of_other_version(row, error) from error


def read_summary(row: RunRow) -> Summary | None:
    """The answer of a run, null where it is not finished. Raises `StoreError`."""
    from pydantic import ValidationError

    from harness.summary import Summary

    try:
        return None if row.summary is None else Summary.model_validate_json(row.summary)
    except ValidationError as error:
        raise _of_other_version(row, error) from error


def read_environment(row: RunRow) -> Environment:
    """Where and with what a run was made. Raises `StoreError`."""
    from pydantic import ValidationError

    from harness.machine.environment import Environment

    try:
        return Environment.model_validate_json(row.environment)
    except ValidationError as error:
        raise _of_other_version(row, error) from error


def _of_other_version(row: RunRow, error: Exception) -> StoreError:
    return StoreError(
        f"run {row.run_id} was kept by another version of the harness: {error}",
        remedy="Read it with that version.",
    )


def print_kept(store: Store, kept: Kept, as_json: bool) -> None:
    """The answer on stdout, its caveats included, and whether its backends agree."""
    from harness.report.answer import answer

    if as_json:
        typer.echo(kept.summary.model_dump_json())
        return
    console = answers()
    console.print(answer(kept, console.width, _agreements(store, kept)))


def _agreements(store: Store, kept: Kept) -> list[Agreement]:
    """Of each pair of the run's backends; none where there is only one, whose cells stay unread."""
    from harness.comparison.compare import agreements
    from harness.comparison.sides import read_side

    if len(kept.summary.runs) < 2:
        return []
    return agreements([read_side(store, kept.summary, run, kept.spec) for run in kept.summary.runs])


def resume_command(run_id: str, results: Path) -> str:
    folder = "" if results == RESULTS else f" --results {shlex.quote(str(results))}"
    return f"harness run --resume {run_id}{folder}"
