"""What is stored of a run's prompts, and whether they are still the same."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from harness.errors import StoreError
from harness.store.prompts import tokens_sha256
from harness.store.runs import StoredRun
from harness.store.schema import PromptRow, TokensRow
from harness.store.store import Store
from harness.summary import Facts, GivenTemplate
from harness.workload.packing import Packed, text_sha256
from harness.workload.workload import Earlier, Workload


def prompt_rows(packed: Packed) -> list[PromptRow]:
    """A row for each prompt, without the id that the store gives it."""
    return [
        PromptRow(
            voter=prompt.voter,
            role=prompt.role,
            position=prompt.position,
            row=prompt.row,
            label=prompt.label,
            examples=len(packed.shown[prompt.voter]),
            text_sha256=text_sha256(prompt.text),
        )
        for prompt in packed.prompts
    ]


def tokens_rows(packed: Packed) -> dict[str, list[TokensRow]]:
    """Hash and length of each prompt's tokens, by vocabulary."""
    return {
        vocabulary: [TokensRow(tokens_sha256(ids), len(ids)) for ids in every]
        for vocabulary, every in packed.token_ids.items()
    }


def facts_of(workload: Workload) -> Facts:
    """What drawing and packing measured."""
    packed, dataset = workload.packed, workload.dataset
    calibration = Counter(one.voter for one in packed.prompts if one.role == "calibration")
    return Facts(
        dataset=dataset.name,
        data=dataset.facts,
        classes=list(dataset.classes),
        label_words=list(workload.writer.words),
        train_test_duplicates=dataset.train_test_duplicates,
        examples_available=[len(voter.examples) for voter in workload.voters],
        calibration=[calibration[voter.index] for voter in workload.voters],
        tokens_per_example=packed.tokens_per_example,
        limit=packed.limit,
        reserve=packed.reserve,
        stop=list(packed.stop),
        labels={
            vocabulary: [list(label) for label in labels]
            for vocabulary, labels in packed.labels.items()
        },
        tokens=dict(workload.tokens),
        too_long=list(packed.too_long),
        all_tokens=packed.all_tokens,
        chat_template=None
        if workload.chat_template is None
        else GivenTemplate(
            sha256=text_sha256(workload.chat_template), source=workload.chat_template
        ),
    )


def merged_facts(stored: Facts | None, workload: Workload) -> Facts:
    """The facts of a run that is resumed: those that are stored, with what is new of entries that
    were not packed for."""
    now = facts_of(workload)
    if stored is None:
        return now
    both = {"labels": now.labels | stored.labels, "tokens": now.tokens | stored.tokens}
    return stored.model_copy(update=both)


def stored_packing(run: StoredRun) -> Earlier | None:
    """How the prompts of a run were packed; `None` where none are stored."""
    vocabularies = (entry.vocabulary for entry in run.entries.values())
    first = next(filter(None, vocabularies), None)
    if first is None or not run.prompts:
        return None
    shown = {prompt.voter: prompt.examples for prompt in run.prompts}
    too_long = run.facts.too_long if run.facts else ()
    return Earlier(list(shown.values()), too_long, first)


def save_prompts(store: Store, run_id: str, workload: Workload, facts_json: str) -> None:
    """Stores the prompts of a run, their tokens, and the facts beside them."""
    packed = workload.packed
    store.save_prompts(
        run_id,
        prompt_rows(packed),
        [prompt.text for prompt in packed.prompts],
        packed.token_ids,
        workload.vocabularies,
        facts_json,
    )


def check_unchanged(run: StoredRun, workload: Workload) -> None:
    """Raises `StoreError` where a run was begun with other data or prompts than its spec makes now.

    One that was ended before its prompts were stored has its data to be compared only.
    """
    # Prompts that were just made have no id of the store yet.
    prompts = [replace(prompt, id=0) for prompt in run.prompts]
    made = tokens_rows(workload.packed)
    same_tokens = all(
        # No tokens are stored of an entry that could not be packed for; and earlier versions stored
        # none of one that was never opened.
        not entry.tokens or entry.tokens == made.get(entry.vocabulary or "")
        for name, entry in run.entries.items()
        if name in workload.vocabularies
    )
    if run.data_sha256 not in (None, workload.dataset.sha256) or (
        prompts and not (prompts == prompt_rows(workload.packed) and same_tokens)
    ):
        raise StoreError(
            f"run {run.run_id} was begun with other prompts than its spec makes now: the data, the "
            "model or a template has changed since",
            remedy="Bring back what it was begun with, or begin a new run.",
        )
