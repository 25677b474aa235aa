"""What a notebook shows of a run and of a comparison: their tables."""

from __future__ import annotations

from collections.abc import Sequence
from io import StringIO
from types import ModuleType

from pydantic import PrivateAttr
from rich.console import Console, RenderableType

from harness.comparison.records import Compared
from harness.errors import HarnessError
from harness.report.compare import compare_answer
from harness.report.stored import stored_answer, summary_of
from harness.report.words import presented, presented_comparison
from harness.store.runs import Side, StoredRun
from harness.summary import Summary

_COLUMNS = 120
_CODE = '<pre style="line-height: normal; white-space: pre; overflow-x: auto">{code}</pre>'


class ShownSummary(Summary):
    """A summary that a notebook shows as its table."""

    # Rendered, so that two that are equal still are.
    _bundle: dict[str, str] = PrivateAttr(default={})

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        return self._bundle


class ShownComparison(Compared):
    """A comparison that a notebook shows as its table."""

    _bundle: dict[str, str] = PrivateAttr(default={})

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        return self._bundle


def shown_summary(run: StoredRun, summary: Summary) -> ShownSummary:
    """As JSON shows it, too."""
    shown = ShownSummary.model_validate(presented(summary).model_dump())
    shown._bundle = _rendered(stored_answer(run, summary).parts)
    return shown


def shown_comparison(found: Sequence[Side], compared: Compared) -> ShownComparison:
    """As JSON shows it, too."""
    shown = ShownComparison.model_validate(presented_comparison(compared).model_dump())
    shown._bundle = _rendered(compare_answer(found, compared, flips=False).parts)
    return shown


def show_stored_runs(ipython: ModuleType) -> None:
    """From now on a notebook, or IPython in a terminal, shows a `StoredRun` as its table."""
    if (shell := ipython.get_ipython()) is not None:
        shell.display_formatter.mimebundle_formatter.for_type(StoredRun, bundle_of)


def bundle_of(run: StoredRun) -> dict[str, str]:
    """As text and as HTML; of a run that cannot be read, why."""
    try:
        return _rendered(stored_answer(run, summary_of(run)).parts)
    except HarnessError as error:
        return {"text/plain": f"{run!r}: {error}"}


def _rendered(parts: RenderableType) -> dict[str, str]:
    """As text, and as HTML; rich escapes what stands in it."""
    console = Console(
        file=StringIO(),
        record=True,
        width=_COLUMNS,
        highlight=False,
        markup=False,
        force_terminal=False,
        force_jupyter=False,
    )
    console.print(parts)
    return {
        "text/html": console.export_html(inline_styles=True, code_format=_CODE, clear=False),
        "text/plain": console.export_text(),
    }
