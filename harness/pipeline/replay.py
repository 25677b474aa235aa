"""The prompts of an earlier run, asked again of other engines.

What decides them comes from that run: its spec, how many examples each voter showed, and the chat
template of the first session of its first backend. They are drawn anew, never packed anew, and have
to come out as they were kept.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest

from backends.api import SessionInfo
from harness.errors import StoreError
from harness.pipeline.prompts import prompt_rows, tokens_rows
from harness.spec import RunSpec, parse_spec
from harness.store.schema import PromptRow, TokensRow
from harness.store.store import Store
from harness.workload.packing import Packed
from harness.workload.workload import Earlier


@dataclass(frozen=True, slots=True)
class Source:
    """A run whose prompts are asked again.

    `info` is of its first backend, `tokens` are those that backend was asked.
    """

    run_id: str
    spec: RunSpec
    info: SessionInfo
    prompts: Sequence[PromptRow]
    tokens: Sequence[TokensRow]

    @property
    def earlier(self) -> Earlier:
        shown = {prompt.voter: prompt.examples for prompt in self.prompts}
        return Earlier(list(shown.values()), self.info.vocabulary_sha256)


def find_source(store: Store, wanted: str) -> Source:
    """The run that first asked the prompts of this one, with the model of this one.

    Raises `StoreError`.
    """
    row = store.run(wanted)
    spec = parse_spec(json.loads(row.spec), where=f"run {row.run_id}")
    if spec.prompts_from is not None:
        origin = find_source(store, spec.prompts_from)
        model = {"model": spec.model, "models": spec.models}
        return replace(origin, spec=origin.spec.model_copy(update=model))
    first = spec.backend[0]
    prompts, sessions = store.prompts(row.run_id), store.sessions(row.run_id, first)
    if not (prompts and sessions):
        raise StoreError(
            f"run {row.run_id} was ended before it asked anything",
            remedy="Complete it with --resume, or name another run.",
        )
    tokens = store.prompt_tokens(row.run_id, first)
    return Source(row.run_id, spec, sessions[0].info, prompts, tokens)


def check_replay(source: Source, packed: Packed, vocabularies: Mapping[str, str]) -> None:
    """Raises `StoreError` where the prompts are not those of the source.

    Texts have to be the same for all backends, tokens for those with the vocabulary of the
    source's first; `vocabularies` has each backend's hash.
    """
    if changed := _first_change(source.prompts, prompt_rows(packed)):
        raise StoreError(
            f"the prompts of run {source.run_id} cannot be made again: the data or a template has "
            f"changed since, first in {_place(changed)}",
            remedy="Bring back what it was begun with, or begin a new run.",
        )
    for backend, rows in tokens_rows(packed).items():
        if vocabularies[backend] == source.info.vocabulary_sha256:
            _check_tokens(source, backend, rows)


def _check_tokens(source: Source, backend: str, rows: Sequence[TokensRow]) -> None:
    for prompt, kept, made in zip(source.prompts, source.tokens, rows, strict=True):
        if kept != made:
            raise StoreError(
                f"{backend} has the vocabulary of run {source.run_id} and makes other tokens of "
                f"its prompts, first in {_place(prompt)}",
                remedy="Ask both engines in one run: they are then given the same tokens.",
            )


def _first_change(kept: Sequence[PromptRow], made: Sequence[PromptRow]) -> PromptRow | None:
    """The first prompt that is not the same on both sides; null where all are."""
    plain = (replace(prompt, id=0) for prompt in kept)
    pairs = zip_longest(plain, made)
    return next((one or other for one, other in pairs if one != other), None)


def _place(prompt: PromptRow) -> str:
    return f"voter {prompt.voter}, {prompt.role} {prompt.position}"
