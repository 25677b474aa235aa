"""Stdout holds the answer and nothing else; all that is said beside it goes to stderr."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console, RenderableType

from harness.errors import HarnessError, StoreError

if TYPE_CHECKING:
    from harness.store.runs import StoredRun


def answers() -> Console:
    return Console(highlight=False)


def remarks() -> Console:
    return Console(stderr=True, highlight=False)


def tell(*parts: str) -> None:
    """Lines on stderr, of untrusted text; a long one is not broken, so that it can be copied."""
    from harness.report.text import lines

    remarks().print(lines(*parts), soft_wrap=True)


def tell_error(error: HarnessError) -> None:
    tell(f"error: {error}", *([f"try: {error.remedy}"] if error.remedy else []))


def why_unreadable(run: StoredRun) -> StoreError | None:
    """Why a run cannot be shown: a newer version wrote it, or it is damaged."""
    try:
        run.check()
    except StoreError as error:
        return error
    return None


def fail_if_unreadable(errors: Sequence[StoreError]) -> None:
    """Names the runs that could not be read beside an answer of all others, and exits with 1."""
    for error in errors:
        tell_error(error)
    if errors:
        raise typer.Exit(1)


def give(answer: Any, table: RenderableType, as_json: bool) -> None:
    """The answer of a command that lists things, as JSON or as a table."""
    if as_json:
        typer.echo(json.dumps(answer, indent=2))
    else:
        answers().print(table)
