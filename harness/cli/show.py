"""`harness show`: a kept run, or import, once more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from harness.cli.console import give
from harness.cli.kept import open_store, print_kept, read_kept
from harness.cli.options import RESULTS, JsonOption, ResultsOption

if TYPE_CHECKING:
    from harness.imports.records import ImportRow

RunArgument: TypeAlias = Annotated[
    str, typer.Argument(metavar="RUN", help='An id, a beginning of one, or "latest".')
]


def show(run: RunArgument, results: ResultsOption = RESULTS, json: JsonOption = False) -> None:
    """Print the table of a kept run, or the figures of an import."""
    from harness.imports.records import PREFIX

    with open_store(results) as store:
        if run.startswith(PREFIX):
            _print_import(store.imported(run), json)
        else:
            print_kept(store, read_kept(store.run(run), results), json)


def _print_import(row: ImportRow, as_json: bool) -> None:
    from harness.imports.records import import_json
    from harness.report.imports import import_details

    give(import_json(row), import_details(row), as_json)
