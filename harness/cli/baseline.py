"""`harness baseline`: classifiers without a language model, over the queries of a run."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.console import checked, give, remarks, tell, tell_error
from harness.errors import EndedBySignal

if TYPE_CHECKING:
    from harness.cli.order import BaselineOrder
    from harness.pipeline.baselines import Fitted


def baseline(names: list[str], **given: Any) -> None:
    """Fit baselines to the data that `harness run` would prompt, and store them as a run.

    With the same --data, --queries and --seed, the queries are those of `harness run`, so `harness
    compare` tests both query by query. After any end, the same command goes on with what was not
    fitted. docs/BASELINES.md says what each baseline is.
    """
    from harness.cli.order import read_baseline_order
    from harness.report.baselines import baselines_answer
    from harness.store.runs import Results

    order = read_baseline_order(names, given)
    wanted = checked(order.output.target)
    fitted = _fit(order)
    with Results(order.output.results) as stored:
        run = stored.run(fitted.summary.run_id)
        give(baselines_answer(run, fitted.summary), wanted)
    # After the answer is printed: the others are stored and can be used.
    for error in fitted.failures.values():
        tell_error(error)
    if fitted.failures:
        raise typer.Exit(1)


def flags_of_command() -> inspect.Signature:
    """The names, then the flags."""
    from harness.baselines.registry import names_for
    from harness.cli.flags import flags_of_baseline, signature

    help_ = f"For vectors: {names_for('vectors')}. For texts: {names_for('text')}."
    names = inspect.Parameter(
        "names",
        inspect.Parameter.KEYWORD_ONLY,
        annotation=Annotated[list[str], typer.Argument(metavar="NAME", help=help_)],
    )
    flags = signature(flags_of_baseline())
    return flags.replace(parameters=[names, *flags.parameters.values()])


def _fit(order: BaselineOrder) -> Fitted:
    from harness.pipeline.baselines import fit_alone
    from harness.report.progress import BaselineWatch, outlet_of

    try:
        with BaselineWatch(outlet_of(remarks(), shown=not order.output.quiet)) as watch:
            return fit_alone(order.spec, order.output.results, watch, order.name)
    # From the handler of Ctrl-C and SIGTERM (`harness.cli.app`).
    except EndedBySignal:
        tell("Interrupted. What was fitted is stored; the same command goes on with the rest.")
        raise
