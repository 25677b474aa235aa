"""Stdout holds the answer and nothing else; all that is said beside it goes to stderr."""

from __future__ import annotations

import json
from typing import Any

import typer
from rich.console import Console, RenderableType

from harness.errors import HarnessError


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


def give(answer: Any, table: RenderableType, as_json: bool) -> None:
    """The answer of a command that lists things, as JSON or as a table."""
    if as_json:
        typer.echo(json.dumps(answer, indent=2))
    else:
        answers().print(table)
