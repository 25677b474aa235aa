"""Flags that commands without a spec share, and how examples look in a help text."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

RESULTS = Path("results")
RESULTS_HELP = "Folder that stores the runs."
RESULTS_DEFAULT = f"{RESULTS_HELP} Default: {RESULTS}."
FORMAT_HELP = "How the answer is written; JSON has everything."
OUTPUT_HELP = "Write the answer to this file and not to stdout."
JSON_HELP = "Short form of --format json."
RUN_HELP = 'an id, the beginning of one, or "latest"'


class Format(StrEnum):
    TABLE = "table"
    JSON = "json"
    CSV = "csv"
    MD = "md"


ResultsOption: TypeAlias = Annotated[
    Path,
    typer.Option("--results", metavar="DIR", help=RESULTS_DEFAULT, show_default=False),
]
FormatOption: TypeAlias = Annotated[
    Format | None, typer.Option("--format", metavar="table|json|csv|md", help=FORMAT_HELP)
]
JsonOption: TypeAlias = Annotated[bool, typer.Option("--json", help=JSON_HELP)]
OutputOption: TypeAlias = Annotated[
    Path | None, typer.Option("--output", "-o", metavar="FILE", help=OUTPUT_HELP)
]


def examples(*commands: str) -> str:
    """An epilog of commands, one a line. After `\\b`, lines stay as they are."""
    return "\n".join(["\b", "Examples:", *(f"  {command}" for command in commands)])
