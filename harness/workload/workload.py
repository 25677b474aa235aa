"""The workload of a run: data, voters and the prompts they make."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.spec import RunSpec
from harness.summary import PromptTokens
from harness.workload.dataset import Dataset, load_dataset
from harness.workload.packing import Packed, pack
from harness.workload.prompt import ChatTemplate, Writer, load_template, make_writer
from harness.workload.tokens import Tokenizer, check_tokens, leaders
from harness.workload.voters import Item, Voter, draw_voters


@dataclass(frozen=True, slots=True)
class Draft:
    """What can be drawn before a model is known."""

    dataset: Dataset
    voters: Sequence[Voter]


@dataclass(frozen=True, slots=True)
class Earlier:
    """What prompts that are asked again take from the run that first asked them.

    `examples`: how many each voter showed. `vocabulary`: the hash of its first backend's.
    """

    examples: Sequence[int]
    vocabulary: str


@dataclass(frozen=True, slots=True)
class Workload:
    """What is asked of every engine; `tokens[name]`: whose tokens backend `name` is asked."""

    dataset: Dataset
    voters: Sequence[Voter]
    writer: Writer
    packed: Packed
    tokens: Mapping[str, PromptTokens]

    @property
    def query_rows(self) -> list[int]:
        """The rows of the test split that are asked, in order."""
        return [query.row for query in self.voters[0].queries]


def draw(spec: RunSpec) -> Draft:
    """Loads the data and draws the voters."""
    dataset = load_dataset(spec.data, spec.seed)
    return Draft(dataset, draw_voters(dataset, spec))


def write(
    draft: Draft,
    spec: RunSpec,
    tokenizers: Mapping[str, Tokenizer],
    chat: ChatTemplate | None,
    limit: int,
    earlier: Earlier | None = None,
) -> Workload:
    """Writes and packs the prompts; `limit` is the longest prompt and reply, in tokens.

    Those of an earlier run are written as they were, whether they fit or not.
    """
    by = leaders(tokenizers)
    writer = make_writer(spec.prompt, load_template(spec.prompt), draft.dataset.classes, chat)
    packed = pack(
        draft.voters,
        writer,
        {name: tokenizers[name] for name in by.values()},
        limit=limit,
        max_tokens=spec.max_tokens,
        shots=spec.shots,
        seed=spec.seed,
        examples=earlier.examples if earlier else None,
    ).shared(by)
    first = earlier.vocabulary if earlier else next(iter(tokenizers.values())).vocabulary
    tokens = check_tokens(packed, tokenizers, first)
    return Workload(draft.dataset, draft.voters, writer, packed, tokens)


def numbers(items: Sequence[Item]) -> NDArray[np.float64]:
    """The numbers that stand in the prompts, float64 (n, k)."""
    return np.array([[float(word) for word in item.words] for item in items])
