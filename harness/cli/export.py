"""`harness export`: replies as a table for other programs, or whole runs as a file to pass on."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated

import typer

from harness.cli.console import Target, checked, tell
from harness.cli.options import OUTPUT_FLAG, RESULTS, RUN_HELP, ResultsOption
from harness.errors import StoreError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from harness.store.runs import StoredRun


class ExportFormat(StrEnum):
    PARQUET = "parquet"
    CSV = "csv"
    JSONL = "jsonl"
    ZIP = "zip"


def export(
    run: Annotated[
        str, typer.Argument(metavar="RUN", help=f"It is {RUN_HELP}, or the name of a group.")
    ],
    format_: Annotated[
        ExportFormat | None,
        typer.Option(
            "--format",
            help="parquet, csv and jsonl have a row for each reply, zip has whole runs for "
            "`harness import`. Default: what the name of the file ends with.",
        ),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", metavar=OUTPUT_FLAG.metavar, help=OUTPUT_FLAG.help),
    ] = None,
    results: ResultsOption = RESULTS,
) -> None:
    """Write the replies of a run as a table, or whole runs as a file to pass on.

    docs/EXPORT.md has the columns, and reads them with pandas and DuckDB.
    """
    from harness.imports.records import PREFIX
    from harness.store.runs import Results

    chosen = format_ or _of_suffix(output)
    target = checked(Target(file=None if output is None else Path(output))).file
    if target is None and (chosen is ExportFormat.ZIP or _is_for_eyes(chosen)):
        raise UsageError(f"{chosen} is written to a file", remedy="Name it with -o FILE.")
    if run.startswith(PREFIX):
        raise UsageError(f"{run} is an import", remedy="Pass on the file that it is from.")
    with Results(results) as stored:
        is_group = stored.is_group(run)
        runs = stored.group(run) if is_group else [stored.run(run)]
        if chosen is ExportFormat.ZIP and target is not None:
            _write_archive(runs, run if is_group else None, results, target)
        else:
            _write_rows(runs, chosen, target)


def _is_for_eyes(chosen: ExportFormat) -> bool:
    return chosen is ExportFormat.PARQUET and sys.stdout.isatty()


def _of_suffix(output: str | None) -> ExportFormat:
    suffix = Path(output or "").suffix.removeprefix(".")
    if suffix in list(ExportFormat):
        return ExportFormat(suffix)
    formats = ", ".join(ExportFormat)
    raise UsageError(
        "the format is not known" if output is None else f"{output}: no format has such an ending",
        remedy=f"Give --format, or -o FILE whose name ends with one of: {formats}.",
    )


def _write_rows(runs: Sequence[StoredRun], chosen: ExportFormat, target: Path | None) -> None:
    from harness.report.export import RowFormat, write_rows

    with _opened(target) as file:
        count = write_rows(runs, RowFormat(chosen), file)
    if target is not None:
        tell(f"{target}: {count:,} rows.")


def _write_archive(
    runs: Sequence[StoredRun], group: str | None, results: Path, target: Path
) -> None:
    from harness.store.archive import write_archive
    from harness.store.store import Store

    ids = [run.run_id for run in runs]
    with Store(results, to_read=True) as store:
        write_archive(store, ids, group, target)
    tell(f"{target}: {len(ids):,} run{'s' * (len(ids) > 1)}, {target.stat().st_size:,} bytes.")


@contextmanager
def _opened(target: Path | None) -> Iterator[IO[bytes]]:
    """The file, which is there only if all of it could be written; or stdout."""
    if target is None:
        yield sys.stdout.buffer
        return
    part = target.with_name(f"{target.name}.part")
    try:
        with part.open("wb") as file:
            yield file
        part.replace(target)
    except OSError as error:
        raise StoreError(
            f"{target} cannot be written: {error.strerror}", remedy="Name another file with -o."
        ) from error
    finally:
        part.unlink(missing_ok=True)
