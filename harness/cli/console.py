"""Stdout holds the answer and nothing else; all that is said beside it goes to stderr."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class Target:
    """How an answer is written, and where to: `None` is stdout."""

    format: Format = Format.TABLE
    file: Path | None = None


def target(format_: Format | None, json: bool, output: str | None) -> Target:
    """What the flags of a command name. Raises `UsageError` where they name two formats, or a file
    that cannot be written, before there is an answer."""
    if json and format_ not in (None, Format.JSON):
        raise UsageError("--json and --format differ", remedy="Give one of them.")
    refuse_format_as_file(output)
    chosen = Format.JSON if json else format_ or Format.TABLE
    return checked(Target(chosen, None if output is None else Path(output)))


def refuse_format_as_file(output: object) -> None:
    """In earlier versions `-o` named the format; `./json` is a file."""
    if output in list(Format):
        raise UsageError(f"-o names a file now, not {output}", remedy=f"Give --format {output}.")


def checked(wanted: Target) -> Target:
    """Raises `UsageError` where the file cannot be written."""
    path = wanted.file
    if path is None:
        return wanted
    if path.is_dir():
        why = "is a folder"
    elif not path.parent.is_dir():
        why = f"is in {path.parent}, which is no folder"
    elif not os.access(path if path.exists() else path.parent, os.W_OK):
        why = "cannot be written"
    else:
        return wanted
    raise UsageError(f"-o {path} {why}", remedy="Name a file in a folder that you may write to.")


def give(answer: Answer, wanted: Target) -> None:
    """The answer of a command. Raises `StoreError` where its file cannot be written; then it is
    printed, so that it can still be used."""
    from harness.report.formats import as_csv, as_json, as_markdown

    make = {Format.JSON: as_json, Format.CSV: as_csv, Format.MD: as_markdown}.get(wanted.format)
    if wanted.file is None and make is None:
        _print(answer)
        return
    write(make(answer) if make else _printed(answer.parts), wanted.file)


def write(text: str, file: Path | None) -> None:
    """To stdout where no file is named. Raises `StoreError` as `give` does."""
    if file is None:
        # Not through rich, which would break long lines of JSON.
        typer.echo(text, nl=False)
        return
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        typer.echo(text, nl=False)
        raise StoreError(
            f"the answer cannot be written to {file}: {error.strerror}; it is printed",
            remedy="Name another file with -o.",
        ) from error


def _print(answer: Answer) -> None:
    """With the answer in short once more at the end, where its beginning has left the screen."""
    console = answers()
    # Not cropped: a command or a path that is longer than a line stays whole.
    console.print(answer.parts, crop=False)
    # A file or a pipe has no screen that the beginning could leave.
    if not (answer.in_short and console.is_terminal):
        return
    if len(console.render_lines(answer.parts)) >= console.height:
        console.print("", answer.in_short, sep="\n")


def _printed(parts: RenderableType) -> str:
    """A table as a file has it: no colours, as wide as a page."""
    file = StringIO()
    # FORCE_COLOR makes rich take anything for a terminal, a file too.
    console = Console(
        file=file, width=_FILE_COLUMNS, highlight=False, markup=False, force_terminal=False
    )
    console.print(parts, crop=False)
    return file.getvalue()


_FILE_COLUMNS = 140
