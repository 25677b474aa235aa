"""The workload of a run: data, voters and the prompts they make."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.errors import UsageError
from harness.spec import DataSpec, RunSpec, named_flags
from harness.summary import PromptTokens
from harness.workload.chat import ChatTemplate, open_chat
from harness.workload.dataset import Dataset, Kind
from harness.workload.encoders import Item
from harness.workload.packing import Packed, pack
from harness.workload.prompt import CHATS, DEFAULTS, Template, Writer, load_template, make_writer
from harness.workload.reading import Wanted
from harness.workload.sources import load_dataset
from harness.workload.tokens import Tokenizer, check_tokens, leaders
from harness.workload.voters import Voter, draw_voters

_OF_VECTORS = ("reducer", "feature_fraction", "bootstrap", "encoding")
"""The fields of a spec that say what becomes of the numbers of a vector."""


@dataclass(frozen=True, slots=True)
class Draft:
    """What can be drawn before a model is known."""

    dataset: Dataset
    voters: Sequence[Voter]


@dataclass(frozen=True, slots=True)
class Earlier:
    """What prompts that are given again take from the run that first gave them.

    `examples`: how many each voter showed. `too_long`: the training rows that were passed over.
    `vocabulary`: the hash of its first entry's.
    """

    examples: Sequence[int]
    too_long: Collection[int]
    vocabulary: str


@dataclass(frozen=True, slots=True)
class Workload:
    """What every entry is given.

    `vocabularies[entry]` is the hash under which `packed` has the entry's tokens, `tokens[entry]`
    says whose these are. `prompt` names the template. `chat_template` is the text of
    --chat-template, `None` where it is not given.
    """

    prompt: str
    dataset: Dataset
    voters: Sequence[Voter]
    writer: Writer
    packed: Packed
    vocabularies: Mapping[str, str]
    tokens: Mapping[str, PromptTokens]
    chat_template: str | None = None

    @property
    def query_rows(self) -> list[int]:
        """The rows of the test split that are queries, in the order of their positions."""
        return [query.row for query in self.voters[0].queries]  # all voters get the same


def load(spec: DataSpec) -> Dataset:
    wanted = Wanted(spec.text_column, spec.label_column, spec.test_share)
    return load_dataset(spec.data, spec.seed, wanted)


def draw(spec: RunSpec, given: Collection[str] = ()) -> Draft:
    """Loads the data and draws the voters. `given` are the fields of the spec that were given, not
    left at their defaults: one that has no meaning for these data is a `UsageError`."""
    dataset = read_data(spec, given)
    return Draft(dataset, draw_voters(dataset, spec))


def read_data(spec: RunSpec, given: Collection[str] = ()) -> Dataset:
    """The data of the spec; `given` as for `draw`."""
    dataset = load(spec)
    if dataset.kind == "text" and (names := [name for name in _OF_VECTORS if name in given]):
        raise UsageError(
            f"{named_flags(names, spec)}: this is for vectors, and {spec.data} holds texts",
            remedy="Leave it out.",
        )
    return dataset


def write(
    draft: Draft,
    spec: RunSpec,
    tokenizers: Mapping[str, Tokenizer],
    chats: Mapping[str, ChatTemplate | None],
    limit: int,
    earlier: Earlier | None = None,
) -> Workload:
    """Writes and packs the prompts; `limit` is the longest prompt and reply, in tokens.

    `tokenizers` and `chats` have one for each entry. Prompts of an `earlier` run are written as
    they were, whether they fit or not: `chats` then has that run's chat template for all. Raises
    `UsageError` where nothing fits, or where a chat would be another text for another entry.
    """
    prompt, template = template_of(spec, draft.dataset.kind)
    chat = _shared_chat(prompt, chats, draft.dataset.kind) if template.kind == "chat" else None
    first_of_each = [tokenizers[name] for name in dict.fromkeys(leaders(tokenizers).values())]
    with open_chat(chat) if chat else nullcontext() as render:
        data = draft.dataset
        writer = make_writer(prompt, template, data.classes, render, data.kind)
        packed = pack(
            draft.voters,
            writer,
            {tokenizer.vocabulary: tokenizer for tokenizer in first_of_each},
            limit=limit,
            max_tokens=spec.max_tokens,
            shots=spec.shots,
            seed=spec.seed,
            examples=earlier.examples if earlier else None,
            too_long=earlier.too_long if earlier else None,
            with_shuffled=spec.shuffled_labels,
        )
    first = earlier.vocabulary if earlier else first_of_each[0].vocabulary
    return Workload(
        prompt=prompt,
        dataset=draft.dataset,
        voters=draft.voters,
        writer=writer,
        packed=packed,
        vocabularies={name: tokenizer.vocabulary for name, tokenizer in tokenizers.items()},
        tokens=check_tokens(packed, tokenizers, first),
    )


def template_of(spec: RunSpec, kind: Kind) -> tuple[str, Template]:
    """The template of the spec, or the default for data of this kind, and its name."""
    prompt = spec.prompt or DEFAULTS[kind]
    template = load_template(prompt)
    if spec.chat_template is not None and template.kind != "chat":
        raise UsageError(
            f"--chat-template {spec.chat_template}: the prompt template {prompt} is no chat",
            remedy=f"Leave it out, or use --prompt {CHATS[kind]}.",
        )
    return prompt, template


def _shared_chat(
    prompt: str, chats: Mapping[str, ChatTemplate | None], kind: Kind
) -> ChatTemplate | None:
    """The chat template of all entries, `None` where no model has one."""
    (first, chat), *others = chats.items()
    lacking = [name for name, one in chats.items() if one is None]
    if 0 < len(lacking) < len(chats):
        raise UsageError(
            f"the prompt template {prompt} is a chat, and {', '.join(lacking)}: the model has no "
            "chat template",
            remedy="Leave it out, name a template for all with --chat-template FILE, or use a "
            f"completion template, such as --prompt {DEFAULTS[kind]}.",
        )
    if unlike := [name for name, other in others if other != chat]:
        raise UsageError(
            f"the prompt template {prompt} is a chat, and {first} has another chat template than "
            f"{', '.join(unlike)}, so they would not be given the same texts",
            remedy="Run them apart, name one for all with --chat-template FILE, or use a "
            f"completion template, such as --prompt {DEFAULTS[kind]}.",
        )
    return chat


def contents(kind: Kind, items: Sequence[Item]) -> NDArray[Any]:
    """What the prompts show of these items: numbers, float64 (n, k), or texts, object (n,)."""
    if kind == "text":
        return np.array([item.words[0] for item in items], dtype=np.object_)
    return np.array([[float(word) for word in item.words] for item in items], dtype=np.float64)
