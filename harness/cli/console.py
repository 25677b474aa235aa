"""Stdout holds the answer and nothing else; all that is said beside it goes to stderr."""

from __future__ import annotations

from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console, RenderableType

from harness.cli.options import Format
from harness.errors import HarnessError, StoreError, UsageError
from harness.machine.homes import without_home

if TYPE_CHECKING:
    from harness.report.formats import Answer
    from harness.store.runs import StoredRun


def answers() -> Console:
    # rich would colour numbers and paths in the middle of an answer.
    return Console(highlight=False, markup=False)


def remarks() -> Console:
    return Console(stderr=True, highlight=False, markup=False)


def tell(*parts: str) -> None:
    """Lines on stderr, of untrusted text; a long one is not broken, so that it can be copied."""
    from rich.text import Text

    from harness.report.text import plain

    remarks().print(Text("\n".join(map(plain, parts))), soft_wrap=True)


def tell_error(error: HarnessError) -> None:
    """Errors are shared: they name no home folder. A remedy may, which is typed as it stands."""
    said = f"error: {without_home(str(error))}"
    tell(said, *([f"try: {error.remedy}"] if error.remedy else []))


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


def chosen(format_: Format | None, json: bool) -> Format:
    """The format that the flags of a command name. Raises `UsageError` where they name two."""
    if json and format_ not in (None, Format.JSON):
        raise UsageError("--json and --format differ", remedy="Give one of them.")
    return Format.JSON if json else format_ or Format.TABLE


def check_output(path: Path | None) -> None:
    """Raises `UsageError` where no answer can be written there, before there is one."""
    if path is None:
        return
    # In earlier versions `-o` named the format.
    if str(path) in list(Format):
        raise UsageError(f"-o takes a file now, not {path}", remedy=f"Give --format {path}.")
    if path.is_dir() or not path.parent.is_dir():
        why = "is a folder" if path.is_dir() else f"is in {path.parent}, which is no folder"
        raise UsageError(f"-o {path} {why}", remedy="Name a file in a folder that exists.")


def give(answer: Answer, format_: Format, output: Path | None = None) -> None:
    """The answer of a command, on stdout or in a file. Raises `StoreError` where that fails."""
    from harness.report.formats import as_csv, as_json, as_markdown

    check_output(output)
    write = {Format.JSON: as_json, Format.CSV: as_csv, Format.MD: as_markdown}.get(format_)
    if output is None and write is None:
        answers().print(answer.parts)
        return
    text = write(answer) if write else _printed(answer.parts)
    if output is None:
        # Not through rich, which would break long lines of JSON.
        typer.echo(text, nl=False)
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise StoreError(
            f"the answer cannot be written to {output}: {error.strerror}",
            remedy="Name another file. What was measured is stored: `harness show` prints it.",
        ) from error


def _printed(parts: RenderableType) -> str:
    """A table as a file has it: no colours, as wide as a page."""
    with Console(file=StringIO(), width=_PAGE_COLUMNS, highlight=False, markup=False) as console:
        console.print(parts)
        assert isinstance(console.file, StringIO)
        return console.file.getvalue()


_PAGE_COLUMNS = 140
