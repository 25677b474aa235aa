"""The workload of a run: data, voters and the prompts they make."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.config import RunSpec
from harness.workload.dataset import Dataset, load_dataset
from harness.workload.packing import Packed, Tokenize, pack
from harness.workload.prompt import ChatTemplate, Writer, load_template, make_writer
from harness.workload.voters import Item, Voter, draw_voters


@dataclass(frozen=True, slots=True)
class Draft:
    """What can be drawn before a model is known."""

    dataset: Dataset
    voters: Sequence[Voter]


@dataclass(frozen=True, slots=True)
class Workload:
    """What is asked of every engine."""

    dataset: Dataset
    voters: Sequence[Voter]
    writer: Writer
    packed: Packed

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
    tokenizers: Mapping[str, Tokenize],
    chat: ChatTemplate | None,
    limit: int,
) -> Workload:
    """Writes and packs the prompts; `limit` is the longest prompt and reply, in tokens."""
    writer = make_writer(spec.prompt, load_template(spec.prompt), draft.dataset.classes, chat)
    packed = pack(
        draft.voters,
        writer,
        tokenizers,
        limit=limit,
        max_tokens=spec.max_tokens,
        shots=spec.shots,
        seed=spec.seed,
    )
    return Workload(draft.dataset, draft.voters, writer, packed)


def numbers(items: Sequence[Item]) -> NDArray[np.float64]:
    """The numbers that stand in the prompts, float64 (n, k)."""
    return np.array([[float(word) for word in item.words] for item in items])
