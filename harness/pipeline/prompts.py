"""What is stored of a run's prompts, and whether they are still the same."""

from __future__ import annotations

from dataclasses import replace

from harness.errors import StoreError
from harness.store.schema import PromptRow, TokensRow
from harness.store.store import Store
from harness.workload.packing import Packed, text_sha256, tokens_sha256
from harness.workload.workload import Workload


def prompt_rows(packed: Packed) -> list[PromptRow]:
    """What is kept of each prompt."""
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
    """What is kept of each prompt's tokens, for each backend."""
    return {
        backend: [TokensRow(tokens_sha256(ids), len(ids)) for ids in every]
        for backend, every in packed.token_ids.items()
    }


def save_prompts(store: Store, run_id: str, workload: Workload) -> None:
    store.save_prompts(run_id, prompt_rows(workload.packed), tokens_rows(workload.packed))


def check_unchanged(store: Store, run_id: str, workload: Workload) -> None:
    """Raises `StoreError` where a run was begun with other prompts than its spec makes now."""
    prompts = [replace(prompt, id=0) for prompt in store.prompts(run_id)]
    tokens = tokens_rows(workload.packed)
    kept = {backend: store.prompt_tokens(run_id, backend) for backend in tokens}
    if (prompts, kept) != (prompt_rows(workload.packed), tokens):
        raise StoreError(
            f"run {run_id} asked other prompts than its spec makes now: the data, the model or a "
            "template has changed since",
            remedy="Bring back what it was begun with, or begin a new run.",
        )
