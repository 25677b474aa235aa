"""`harness import`: results of other tools, kept beside the runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.console import give, tell
from harness.cli.options import RESULTS, JsonOption, ResultsOption

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.imports.records import ImportFile, ImportRow


def import_files(
    files: Annotated[list[Path], typer.Argument(metavar="FILE", help="JSON of another tool.")],
    results: ResultsOption = RESULTS,
    name: Annotated[
        str,
        typer.Option("--name", metavar="NAME", help="What to call them. Default: the file's name."),
    ] = "",
    json: JsonOption = False,
) -> None:
    """Keep results of llama-bench, harness bench, vllm bench and lm-eval beside the runs.

    What a file is shows in its content. All files are kept, or none.
    One that is kept already is not added again. `harness show` has all figures.
    """
    from harness.imports.files import read_file
    from harness.imports.records import import_json
    from harness.report.imports import imports_table
    from harness.store.store import Store

    read = [read_file(path) for path in files]
    with Store(results) as store:
        known = store.save_imports(read, name)
        rows = _rows_of(read, store.imports())
    _tell_known(known, rows)
    give([import_json(row) for row in rows], imports_table(rows), json)


def _rows_of(files: Sequence[ImportFile], rows: Sequence[ImportRow]) -> list[ImportRow]:
    wanted = {file.sha256 for file in files}
    return [row for row in rows if row.file_sha256 in wanted]


def _tell_known(known: Sequence[ImportFile], rows: Sequence[ImportRow]) -> None:
    for file in known:
        first = next(row for row in rows if row.file_sha256 == file.sha256)
        tell(f"{file.name} is kept already, as {first.import_id}: nothing was added.")
