"""What is shown of a stored run, whatever it holds and however far it came."""

from __future__ import annotations

from dataclasses import replace

from rich.console import Group

from harness.pipeline.summarise import so_far
from harness.report.answer import Beside, run_answer
from harness.report.baselines import baselines_answer
from harness.report.formats import Answer
from harness.report.replies import unparsed_notes
from harness.store.runs import StoredRun
from harness.summary import Summary


def summary_of(run: StoredRun) -> Summary:
    """Of an unfinished run what it has come to so far."""
    return run.summary if run.is_finished else so_far(run)


def stored_answer(
    run: StoredRun, summary: Summary, *, is_read: bool = True, is_compared: bool = True
) -> Answer:
    """The answer, its caveats included, who of its entries is ahead, and whether they agree; with
    it, replies of an entry of which none could be read.

    `is_read`: a person reads it, and there is a place for replies; `is_compared`: there is one for
    what takes a comparison.
    """
    if summary.queries is not None:
        return baselines_answer(run, summary)
    answer = run_answer(run.spec, summary, Beside.of(run, is_compared))
    if is_read and (unparsed := unparsed_notes(run, summary.runs)):
        return replace(answer, parts=Group(answer.parts, "", *unparsed))
    return answer
