"""Flags that several commands share, and how examples look in a help text."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

RESULTS = Path("results")

ResultsOption: TypeAlias = Annotated[
    Path, typer.Option("--results", metavar="DIR", help="Folder that keeps the runs.")
]
JsonOption: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON, not a table.")]


def examples(*commands: str) -> str:
    """An epilog of commands, one a line."""
    return "\n\n".join(["Examples:", *(f"  {command}" for command in commands)])
