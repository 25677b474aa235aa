"""`harness history`: how a metric went from run to run, and where its level changed."""

from __future__ import annotations

from typing import Annotated

import typer

from harness.cli.console import fail_if_unreadable, give, target, why_unreadable
from harness.cli.options import (
    RESULTS,
    FormatOption,
    JsonOption,
    OutputOption,
    ResultsOption,
)
from harness.errors import UsageError


# stated, not looked up: a help text imports nothing heavy
def history(
    metric: Annotated[
        str,
        typer.Option(
            "--metric",
            metavar="NAME",
            help="Metric to follow, as `harness run --json` names it under `metrics`. Default: "
            "prefill_tokens_per_second.",
            show_default=False,
        ),
    ] = "prefill_tokens_per_second",
    backend: Annotated[
        str | None, typer.Option(metavar="NAME", help="Runs on this backend only.")
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", "-m", metavar="MODEL", help="Runs of this model only.")
    ] = None,
    results: ResultsOption = RESULTS,
    everything: Annotated[
        bool,
        typer.Option("--all", help="Show every run, and also series with a single run."),
    ] = False,
    format_: FormatOption = None,
    json: JsonOption = False,
    output: OutputOption = None,
) -> None:
    """Show a metric over all stored runs, and where it changed.

    A series has the runs of one engine and model with the same data and settings on one machine.
    """
    from harness.comparison.history import read_history
    from harness.comparison.metrics import METRICS
    from harness.report.history import history_answer
    from harness.store.runs import Results
    from harness.validation import nearest

    wanted = target(format_, json, output)
    if metric not in METRICS:
        near = nearest(metric, METRICS)
        raise UsageError(
            f"no metric is called {metric!r}",
            remedy=f"Did you mean {near}?" if near else f"Give one of: {', '.join(METRICS)}.",
        )
    with Results(results) as stored:
        found = read_history(stored, metric, backend, model)
        unreadable = [why_unreadable(run) for run in stored if run.run_id in found.unreadable]
    give(history_answer(found, everything), wanted)
    fail_if_unreadable([error for error in unreadable if error])
