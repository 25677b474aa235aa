"""`harness import`: results of other tools, and runs that were passed on."""

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
from harness.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.cli.console import Target
    from harness.imports.records import ImportFile, ImportRow


def import_files(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE", help="JSON of another tool, or what `harness export` wrote."
        ),
    ],
    results: ResultsOption = RESULTS,
    name: Annotated[
        str,
        typer.Option(
            "--name",
            metavar="NAME",
            help="Name under which they are shown. Default: the file's name, or that of the run "
            "where it was made.",
        ),
    ] = "",
    format_: FormatOption = None,
    json: JsonOption = False,
    output: OutputOption = None,
) -> None:
    """Store results of other tools beside the runs, or runs of another machine among them.

    It reads those of llama-bench, harness bench, vllm bench and lm-evaluation-harness, and the
    runs that `harness export RUN -o run.zip` wrote. Which tool wrote a file is seen from its
    content. All files are stored, or none. A file that is
    stored already is not added again; a run that is stored already is an error.
    """
    from harness.imports.files import read_file
    from harness.report.imports import imports_answer
    from harness.store.archive import is_archive
    from harness.store.store import Store

    wanted = target(format_, json, output)
    if any(map(is_archive, files)):
        _import_runs(files, results, name, wanted)
        return
    # All are read before the first is stored: if one is refused, none is stored.
    read = [read_file(path) for path in files]
    with Store(results) as store:
        known = store.save_imports(read, name)
        rows = _rows_of(read, store.imports())
    _tell_known(known, rows)
    give(imports_answer(rows), wanted)


def _import_runs(files: Sequence[Path], results: Path, name: str, wanted: Target) -> None:
    """One archive, of one run or more."""
    from harness.cli.list import as_json, as_records, read_row, runs_table
    from harness.report.formats import Answer
    from harness.store.archive import read_archive
    from harness.store.runs import StoredRun
    from harness.store.store import Store

    if len(files) > 1:
        raise UsageError("an archive of runs is imported alone", remedy="Give one file at a time.")
    with Store(results) as store:
        ids = read_archive(files[0], store, name or None)
        rows = [read_row(StoredRun(store, store.run(run_id))) for run_id in ids]
    records = [record for row in rows for record in as_records(row)]
    give(Answer(runs_table(rows), {"runs": list(map(as_json, rows))}, records), wanted)


def _rows_of(files: Sequence[ImportFile], rows: Sequence[ImportRow]) -> list[ImportRow]:
    wanted = {file.sha256 for file in files}
    return [row for row in rows if row.file_sha256 in wanted]


def _tell_known(known: Sequence[ImportFile], rows: Sequence[ImportRow]) -> None:
    for file in known:
        first = next(row for row in rows if row.file_sha256 == file.sha256)
        tell(f"{file.name} is stored already, as {first.import_id}: nothing was added.")
