"""`harness history`: how a metric went from run to run, and where its level changed."""

from __future__ import annotations

from typing import Annotated

import typer

from harness.cli.console import answers, fail_if_unreadable, why_unreadable
from harness.cli.options import RESULTS, JsonOption, ResultsOption
from harness.errors import UsageError


# stated, not looked up: a help text imports nothing heavy
def history(
    metric: Annotated[
        str,
        typer.Option(
            "--metric",
            metavar="NAME",
            help="Metric to follow, as `harness run --json` names it under `metrics`.",
        ),
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

    A series is one engine and model that was given the same on one machine.
    """
    from harness.comparison.history import read_history
    from harness.comparison.metrics import METRICS
    from harness.report.history import describe
    from harness.store.runs import Results

    if metric not in METRICS:
        raise UsageError(
            f"no metric is called {metric!r}", remedy=f"Give one of: {', '.join(METRICS)}."
        )
    with Results(results) as stored:
        found = read_history(stored, metric, backend, model)
        unreadable = [why_unreadable(run) for run in stored if run.run_id in found.unreadable]
    if json:
        typer.echo(found.model_dump_json())
    else:
        console = answers()
        console.print(describe(found, console.width, console.options.ascii_only, everything))
    fail_if_unreadable([error for error in unreadable if error])
