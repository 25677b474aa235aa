"""A whole run as an engine would have left it, made by hand: one voter, a prompt for each reply."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from backends.api import Batch, Reply
from harness.pipeline.summarise import summarise
from harness.record import Estimate
from harness.spec import RunSpec, entries_of
from harness.store.runs import StoredRun
from harness.store.schema import EntryRow, PromptRow, SessionUse
from harness.store.store import Store
from harness.summary import Baseline, PromptTokens
from tests.unit.comparison.made import ENVIRONMENT
from tests.unit.store.test_runs import FACTS, INFO

REPLIES = ("no", "no", "perhaps", "\x1b[31m no\nyes")
"""Of classes FAKE, REAL, FAKE, REAL: right, wrong, no label, two labels."""


def add_run(
    store: Store,
    replies: Sequence[str] = REPLIES,
    name: str | None = None,
    group: str | None = None,
    finished: bool = True,
    **fields: Any,
) -> str:
    """A run with these replies to as many queries, and one to a calibration prompt."""
    given = {"backend": ("mock",), "voters": 1, "queries": len(replies), **fields}
    spec = RunSpec(**given)
    entries = [EntryRow(one.name, one.backend, one.model, None) for one in entries_of(spec)]
    run_id = store.create_run(
        spec.model_dump_json(), ENVIRONMENT.model_dump_json(), entries, "dd", group, name
    )
    texts = [f"x: {n} y:" for n in range(len(replies) + 1)]
    prompts = [
        PromptRow(
            *(0, "query" if n < len(replies) else "calibration", n % len(replies)),
            row=7 + n,
            label=n % 2,
            examples=5,
            text_sha256=hashlib.sha256(text.encode()).hexdigest(),
        )
        for n, text in enumerate(texts)
    ]
    tokens = PromptTokens(same_as_first=True, tokenized_by=entries[0].name, own_difference=None)
    facts = FACTS.model_copy(update={"tokens": {one.name: tokens for one in entries}})
    store.save_prompts(
        *(run_id, prompts, texts, {"00": [[1, 2, n] for n in range(len(texts))]}),
        {one.name: "00" for one in entries},
        facts.model_dump_json(),
    )
    ids = [prompt.id for prompt in store.prompts(run_id)]
    for entry in entries:
        session = store.open_session(run_id, entry.name, INFO, 0.5)
        answers = tuple(
            Reply(n, "stop", 3, 2, text, (1, 2), (-0.5, -1.5), 4.5)
            for n, text in enumerate([*replies, ""])
        )
        cells = {n: (prompt_id, 0) for n, prompt_id in enumerate(ids)}
        store.save_batch(
            session, Batch(answers, 0.0, 1.0, 15, 0.5), cells, SessionUse(1.0, 10.0, None, 0.5, 2.0)
        )
    if finished:
        estimate = Estimate(value=0.5, low=0.1, high=0.9)
        predictions = [0] * len(replies)
        baseline = Baseline(name="b", estimate=estimate, seconds=0.1, predictions=predictions)
        summary = summarise(StoredRun(store, store.run(run_id)), [baseline])
        store.finish_run(run_id, summary.model_dump_json(), [baseline])
    return run_id
