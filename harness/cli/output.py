"""Where a run is stored, and how its answer is written."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import field_validator

from harness.cli.options import FORMAT_HELP, OUTPUT_HELP, RESULTS, RESULTS_HELP, Format
from harness.flag import Flag
from harness.record import Record

_PANEL = "Output"


class Output(Record):
    """Each field is a flag of `harness run` and `harness bench`, and a key of the TOML file."""

    results: Annotated[Path, Flag(RESULTS_HELP, _PANEL, metavar="DIR")] = RESULTS
    format: Annotated[Format, Flag(FORMAT_HELP, _PANEL)] = Format.TABLE
    output: Annotated[Path | None, Flag(OUTPUT_HELP, _PANEL, metavar="FILE", short="o")] = None
    quiet: Annotated[bool, Flag("No progress on stderr.", _PANEL)] = False

    @field_validator("results", "output", mode="before")
    @classmethod
    def _is_named(cls, value: Any) -> Any:
        # As a path it would be the current folder: a shell variable that is not set gives it.
        if value == "":
            raise ValueError("an empty name")
        return value
