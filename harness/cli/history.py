"""`harness history`: how a metric went from run to run, and where its level changed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.console import answers
from harness.cli.kept import open_store, read_environment, read_spec, read_summary
from harness.cli.options import RESULTS, JsonOption, ResultsOption
from harness.errors import StoreError, UsageError

if TYPE_CHECKING:
    from harness.comparison.history import Finished
    from harness.store.schema import RunRow
    from harness.store.store import Store

# told, not looked up: a help text imports nothing heavy
_METRICS = (
    "What to follow: accuracy, parse_rate, prefill_tokens_per_second, decode_tokens_per_second, "
    "time_to_first_token_ms, peak_rss_mib, examples_per_voter or load_seconds."
)


def history(
    metric: Annotated[
        str, typer.Option("--metric", metavar="NAME", help=_METRICS)
    ] = "prefill_tokens_per_second",
    backend: Annotated[str | None, typer.Option(help="Runs on this engine only.")] = None,
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="Runs of this model only.")
    ] = None,
    results: ResultsOption = RESULTS,
    everything: Annotated[
        bool,
        typer.Option("--all", help="All runs in the tables; series of fewer than two runs too."),
    ] = False,
    json: JsonOption = False,
) -> None:
    """Show how a metric went from run to run, and where its level changed.

    A series is one engine and model that were asked the same on one machine.
    """
    from harness.comparison.history import read_history
    from harness.report.history import describe

    _check_metric(metric)
    with open_store(results) as store:
        finished, unreadable = _read(store)
        found = read_history(store, finished, metric, backend, model, unreadable)
    if json:
        typer.echo(found.model_dump_json())
    else:
        console = answers()
        console.print(describe(found, console.width, console.options.ascii_only, everything))


def _check_metric(name: str) -> None:
    from harness.metrics import METRICS

    if name not in METRICS:
        raise UsageError(
            f"no metric is called {name!r}", remedy=f"Give one of: {', '.join(METRICS)}."
        )


def _read(store: Store) -> tuple[list[Finished], int]:
    """The finished runs, and how many could not be read: one must not hide the others."""
    read: list[Finished] = []
    unreadable = 0
    for row in store.runs():
        try:
            read += _finished(row)
        except StoreError:
            unreadable += 1
    return read, unreadable


def _finished(row: RunRow) -> Iterator[Finished]:
    """The run, unless it is not finished. Raises `StoreError` where it cannot be read."""
    from harness.comparison.history import Finished

    summary = read_summary(row)
    if summary is not None:
        yield Finished(read_spec(row), read_environment(row), summary)
