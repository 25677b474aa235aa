"""How far the backends of kept runs agree, read from their cells."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.report.answer import Kept
    from harness.scoring.agreement import Side
    from harness.store.store import Store
    from harness.summary import Agreement, RunSummary


def read_agreements(store: Store, kept: Sequence[Kept]) -> list[Agreement]:
    """Of each pair of all the runs' backends; none where there is only one."""
    members = [(one, run) for one in kept for run in one.summary.runs]
    if len(members) < 2:  # nor are its cells read
        return []
    from harness.scoring.agreement import agreements

    return agreements([_side(store, one, run) for one, run in members])


def _side(store: Store, kept: Kept, run: RunSummary) -> Side:
    from harness.scoring.agreement import Reading, make_side
    from harness.summary import Member

    run_id = kept.summary.run_id
    prompts = store.prompts(run_id)
    indices = {prompt.id: index for index, prompt in enumerate(prompts)}
    cells = store.cells(run_id, run.backend)
    return make_side(
        Member(run_id=run_id, backend=run.backend),
        store.sessions(run_id, run.backend)[0].model_sha256,
        prompts,
        {indices[cell.prompt_id]: cell.reply for cell in cells if cell.reply is not None},
        Reading(
            classes=run.accuracy.classes,
            words=run.label_words,
            decoding=kept.spec.decoding,
            vote=run.accuracy.headline,
        ),
    )
