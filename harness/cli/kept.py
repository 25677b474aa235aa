"""Runs as they were kept, read back."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from harness.cli.console import answers
from harness.cli.options import RESULTS
from harness.errors import StoreError, UsageError

if TYPE_CHECKING:
    from harness.config import RunSpec
    from harness.report.answer import Kept
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


def read_spec(row: RunRow) -> RunSpec:
    """What a run was asked to do. Raises `StoreError`."""
    from harness.config import parse_spec

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


def _of_other_version(row: RunRow, error: Exception) -> StoreError:
    return StoreError(
        f"run {row.run_id} was kept by another version of the harness: {error}",
        remedy="Read it with that version.",
    )


def print_kept(store: Store, kept: Kept, as_json: bool) -> None:
    """The answer on stdout, its caveats included, and whether its backends agree."""
    from harness.cli.agreement import read_agreements
    from harness.report.answer import answer

    if as_json:
        typer.echo(kept.summary.model_dump_json())
        return
    console = answers()
    console.print(answer(kept, console.width, read_agreements(store, [kept])))


def resume_command(run_id: str, results: Path) -> str:
    folder = "" if results == RESULTS else f" --results {shlex.quote(str(results))}"
    return f"harness run --resume {run_id}{folder}"
