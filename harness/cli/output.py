"""Where a run is stored, and how its answer is written."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, field_validator

from harness.cli.console import Target
from harness.cli.options import FORMAT_FLAG, OUTPUT_FLAG, PANEL, RESULTS, RESULTS_FLAG, Format
from harness.flag import Flag
from harness.record import Record


class Output(Record):
    """Each field is a flag of `harness run` and `harness bench`, and a key of the TOML file."""

    results: Annotated[Path, RESULTS_FLAG] = RESULTS
    format: Annotated[Format, FORMAT_FLAG] = Format.TABLE
    output: Annotated[Path | None, OUTPUT_FLAG] = None
    # In a file, `quiet = 1` would be true.
    quiet: Annotated[bool, Flag("No progress on stderr.", PANEL), Field(strict=True)] = False

    @field_validator("results", "output", mode="before")
    @classmethod
    def _is_a_path(cls, value: Any) -> Any:
        # An empty path would be the current folder. No file name has a NUL.
        if value is None or (
            isinstance(value, str | Path) and str(value) and "\0" not in str(value)
        ):
            return value
        raise ValueError("use a path, as text")

    @property
    def target(self) -> Target:
        return Target(self.format, self.output)
