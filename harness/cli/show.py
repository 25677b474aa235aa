"""`harness show`: a kept run once more."""

from __future__ import annotations

from typing import Annotated, TypeAlias

import typer

from harness.cli.kept import open_store, print_kept, read_kept
from harness.cli.options import RESULTS, JsonOption, ResultsOption

RunArgument: TypeAlias = Annotated[
    str, typer.Argument(metavar="RUN", help='An id, a beginning of one, or "latest".')
]


def show(run: RunArgument, results: ResultsOption = RESULTS, json: JsonOption = False) -> None:
    """Print the table of a kept run."""
    with open_store(results) as store:
        print_kept(store, read_kept(store.run(run), results), json)
