"""`harness import`: results of other tools, stored beside the runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.console import give, target, tell
from harness.cli.options import (
    RESULTS,
    FormatOption,
    JsonOption,
    OutputOption,
    ResultsOption,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.imports.records import ImportFile, ImportRow


def import_files(
    files: Annotated[list[Path], typer.Argument(metavar="FILE", help="JSON of another tool.")],
    results: ResultsOption = RESULTS,
    name: Annotated[
        str,
        typer.Option(
            "--name",
            metavar="NAME",
            help="Name under which they are shown. Default: the file's name.",
        ),
    ] = "",
    format_: FormatOption = None,
    json: JsonOption = False,
    output: OutputOption = None,
) -> None:
    """Store results of other tools beside the runs.

    It reads those of llama-bench, harness bench, vllm bench and lm-evaluation-harness.
    Which tool wrote a file is seen from its content. All files are stored, or none.
    One that is stored already is not added again. `harness show` has all figures.
    """
    from harness.imports.files import read_file
    from harness.report.imports import imports_answer
    from harness.store.store import Store

    wanted = target(format_, json, output)
    # All are read before the first is stored: if one is refused, none is stored.
    read = [read_file(path) for path in files]
    with Store(results) as store:
        known = store.save_imports(read, name)
        rows = _rows_of(read, store.imports())
    _tell_known(known, rows)
    give(imports_answer(rows), wanted)


def _rows_of(files: Sequence[ImportFile], rows: Sequence[ImportRow]) -> list[ImportRow]:
    wanted = {file.sha256 for file in files}
    return [row for row in rows if row.file_sha256 in wanted]


def _tell_known(known: Sequence[ImportFile], rows: Sequence[ImportRow]) -> None:
    for file in known:
        first = next(row for row in rows if row.file_sha256 == file.sha256)
        tell(f"{file.name} is stored already, as {first.import_id}: nothing was added.")
