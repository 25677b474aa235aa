"""`harness run`: prompt, store, report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.cli.console import checked, tell
from harness.cli.show import show_run

if TYPE_CHECKING:
    from harness.cli.order import Order
    from harness.cli.progress import Watch
    from harness.summary import Summary


def run(**given: Any) -> None:
    """Give every engine the same prompts, and print their figures side by side.

    Every reply is stored as it comes, so a run that ended early can be completed with --resume.
    """
    from harness.cli.order import read_order
    from harness.pipeline.run import check_answered
    from harness.store.runs import Results

    order = read_order(given)
    wanted = checked(order.output.target)
    summary = _carry_out(order)
    with Results(order.output.results) as stored:
        show_run(stored.run(summary.run_id), summary, wanted)
    # After the answer is printed: a run without a reply has caveats to show, and exits with 1.
    check_answered(summary)


def _carry_out(order: Order) -> Summary:
    """Runs, with progress; says how to go on when a signal ends it."""
    from harness.cli.progress import Watch

    watch = Watch(shown=not order.output.quiet)
    try:
        with watch:
            return _run(order, watch)
    # From the handler of Ctrl-C and SIGTERM (`harness.cli.app`).
    except SystemExit:
        _say_interrupted(watch.run_id, order.output.results)
        raise


def _run(order: Order, watch: Watch) -> Summary:
    from harness.pipeline.run import resume, run

    results = order.output.results
    if isinstance(order.what, str):
        return resume(order.what, results, watch)
    return run(order.what, results, watch)


def _say_interrupted(run_id: str | None, results: Path) -> None:
    if run_id is None:
        tell("Interrupted before anything was prompted.")
        return
    from harness.store.runs import Results

    with Results(results) as stored:
        command = stored.run(run_id).resume_command
    tell("Interrupted. Everything that was finished is stored; go on with:", f"  {command}")
