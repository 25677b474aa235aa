"""Flags that all commands share, and how examples look in a help text."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from harness.errors import UsageError
from harness.flag import Flag

RESULTS = Path("results")
PANEL = "Output"
RUN_HELP = 'a run\'s name, its id (or the beginning of it), or "latest"'


class Format(StrEnum):
    TABLE = "table"
    JSON = "json"
    CSV = "csv"
    MD = "md"


RESULTS_FLAG = Flag("Folder that stores the runs.", PANEL, metavar="DIR")
FORMAT_FLAG = Flag(
    "Format of the answer; JSON has the most detail.", PANEL, metavar="|".join(Format)
)
OUTPUT_FLAG = Flag("Write the answer to this file and not to stdout.", PANEL, "", "FILE", short="o")
JSON_FLAG = Flag("Short form of --format json.", PANEL)

# Of commands that have no spec. Those of `run` and `bench` are made in `harness.cli.flags`, of the
# same definitions.
ResultsOption: TypeAlias = Annotated[
    Path,
    typer.Option(
        "--results",
        metavar=RESULTS_FLAG.metavar,
        help=f"{RESULTS_FLAG.help} Default: {RESULTS}.",
        show_default=False,
    ),
]


def _format(text: str) -> Format:
    if text not in list(Format):
        raise UsageError(
            f"--format is {text!r}: use one of: {', '.join(Format)}", remedy="Give one of them."
        )
    return Format(text)


FormatOption: TypeAlias = Annotated[
    Format | None,
    typer.Option(
        "--format",
        metavar=FORMAT_FLAG.metavar,
        help=f"{FORMAT_FLAG.help} Default: {Format.TABLE}.",
        parser=_format,
    ),
]
JsonOption: TypeAlias = Annotated[bool, typer.Option("--json", help=JSON_FLAG.help)]
OutputOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--output", f"-{OUTPUT_FLAG.short}", metavar=OUTPUT_FLAG.metavar, help=OUTPUT_FLAG.help
    ),
]


def examples(*commands: str) -> str:
    """An epilog of commands, one a line. After `\\b`, lines stay as they are."""
    return "\n".join(["\b", "Examples:", *(f"  {command}" for command in commands)])
