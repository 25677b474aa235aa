"""The prompts of an earlier run, given to other engines.

What decides them comes from that run: its spec, how many examples each voter showed, and the chat
template of the first session of its first entry. They are drawn again, never packed again, and
have to come out as they were stored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest

from harness.contract import SessionInfo
from harness.errors import StoreError
from harness.pipeline.prompts import prompt_rows, tokens_rows
from harness.spec import RunSpec, replay_spec
from harness.store.runs import StoredEntry, StoredRun
from harness.store.schema import PromptRow, TokensRow
from harness.store.store import Store
from harness.workload.tables import LABEL
from harness.workload.workload import Earlier, Workload


@dataclass(frozen=True, slots=True)
class Source:
    """A run whose prompts are used again, with the model of the run that named it.

    `first` is its first entry of which a session was opened.
    """

    run: StoredRun
    first: StoredEntry
    spec: RunSpec

    @property
    def run_id(self) -> str:
        return self.run.run_id

    @property
    def info(self) -> SessionInfo:
        return self.first.sessions[0].info

    def replayed(self, given: RunSpec) -> RunSpec:
        """The spec that gives the engines of `given` the prompts of the run. Raises `UsageError`
        where it would change them."""
        return replay_spec(given, self.spec, self.run_id, self._used)

    @property
    def _used(self) -> dict[str, object]:
        """What fields of the spec came to, which are a default, or the most that is wanted."""
        prompts, facts = self.run.prompts, self.run.facts
        found: dict[str, object] = {
            "label_column": self.spec.label_column or LABEL,
            "queries": len({one.position for one in prompts if one.role == "query"}),
        }
        shown = {one.examples for one in prompts}
        if len(shown) == 1:  # all voters show as many
            found["shots"] = shown.pop()
        if facts is None:
            return found
        found |= {"max_tokens": self.run.max_tokens, "max_model_len": facts.limit}
        if len(set(facts.calibration)) == 1:
            found["calibration_queries"] = facts.calibration[0]
        if facts.data is not None:
            found["text_column"] = facts.data.text_column
            found["test_share"] = facts.data.test_share
        return found

    @property
    def earlier(self) -> Earlier:
        shown = {prompt.voter: prompt.examples for prompt in self.run.prompts}
        too_long = self.run.facts.too_long if self.run.facts else ()
        return Earlier(list(shown.values()), too_long, self.info.vocabulary_sha256)


def find_source(store: Store, wanted: str) -> Source:
    """The run that was first given the prompts of this one, with the model of this one.

    Raises `StoreError`.
    """
    run = StoredRun(store, store.run(wanted))
    first_run = run.given_spec.prompts_from
    # Once the first run is deleted, its prompts are in this one alone.
    if first_run is not None and any(row.run_id == first_run for row in store.runs()):
        # A replay of a replay is one of the first run, whose chat template and tokens count.
        origin = find_source(store, first_run)
        model = {"model": run.given_spec.model, "models": run.given_spec.models}
        return replace(origin, spec=origin.spec.model_copy(update=model))
    first = next((entry for entry in run.entries.values() if entry.sessions), None)
    if first is None or not run.prompts:
        why = "has no engine that could be loaded" if run.is_finished else "was ended before that"
        raise StoreError(
            f"run {run.run_id} was given no prompt: it {why}",
            remedy="Name another run."
            if run.is_finished
            else "Complete it with --resume, or name another run.",
        )
    return Source(run, first, run.given_spec)


def check_replay(source: Source, workload: Workload) -> None:
    """Raises `StoreError` where the prompts are not those of the source.

    Texts have to be the same for all entries, tokens for those with the vocabulary of the source's
    first.
    """
    if changed := _first_change(source.run.prompts, prompt_rows(workload.packed)):
        raise StoreError(
            f"the prompts of run {source.run_id} cannot be made again: the data or a template has "
            f"changed since, first in {_place(changed)}",
            remedy="Bring back what it was begun with, or begin a new run.",
        )
    made = tokens_rows(workload.packed).get(source.info.vocabulary_sha256)
    # Another vocabulary makes other tokens of the same texts, which is allowed.
    if made is not None:
        _check_tokens(source, workload, made)


def _check_tokens(source: Source, workload: Workload, made: Sequence[TokensRow]) -> None:
    for prompt, stored, now in zip(source.run.prompts, source.first.tokens, made, strict=True):
        if stored != now:
            vocabulary = source.info.vocabulary_sha256
            names = [name for name, one in workload.vocabularies.items() if one == vocabulary]
            raise StoreError(
                f"{names[0]} has the vocabulary of run {source.run_id} and makes other tokens of "
                f"its prompts, first in {_place(prompt)}",
                remedy="Use both engines in one run: they are then given the same tokens.",
            )


def _first_change(stored: Sequence[PromptRow], made: Sequence[PromptRow]) -> PromptRow | None:
    """The first prompt that is not the same on both sides; `None` where all are."""
    # The database numbers its rows; prompts just made have 0.
    plain = (replace(prompt, id=0) for prompt in stored)
    pairs = zip_longest(plain, made)
    return next((one or other for one, other in pairs if one != other), None)


def _place(prompt: PromptRow) -> str:
    return f"voter {prompt.voter}, {prompt.role} {prompt.position}"
