"""Packing: how many whole examples fit into a context, counted with the models' own tokenizers.

Nothing is estimated: a voter holds k examples if its longest prompt with k of them, tokenized
whole, leaves room for the reply, and with k + 1 it does not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from harness.errors import TemplateError, UsageError
from harness.workload.prompt import Writer
from harness.workload.voters import Item, Voter

Tokenize: TypeAlias = Callable[[Sequence[str]], Sequence[Sequence[int]]]
Role: TypeAlias = Literal["query", "calibration"]


@dataclass(frozen=True, slots=True)
class Prompt:
    """One prompt: voter and query, or voter and calibration example."""

    voter: int
    role: Role
    position: int
    row: int
    label: int
    text: str


@dataclass(frozen=True, slots=True)
class Packed:
    """The prompts of a run, the same texts for every entry.

    `token_ids[vocabulary][i]`: prompt i in the tokens of that vocabulary, named by its hash;
    `labels[vocabulary]`: how a reply goes on with each label. `shown[v]`: the examples of voter v
    as they stand in its prompts. `limit` is in tokens and includes `reserve`, the room for the
    reply. `tokens_per_example` is `None` where no example is shown.
    """

    prompts: tuple[Prompt, ...]
    shown: tuple[tuple[Item, ...], ...]
    token_ids: Mapping[str, Sequence[Sequence[int]]]
    labels: Mapping[str, tuple[tuple[int, ...], ...]]
    stop: tuple[str, ...]
    limit: int
    reserve: int
    tokens_per_example: float | None


def pack(
    voters: Sequence[Voter],
    writer: Writer,
    tokenizers: Mapping[str, Tokenize],
    *,
    limit: int,
    max_tokens: int,
    shots: int | None,
    seed: int,
    examples: Sequence[int] | None = None,
) -> Packed:
    """Packs every voter. With one tokenizer for each vocabulary, the smallest fit holds for all.

    `examples` fixes how many each voter shows, whether they fit or not. Raises `UsageError` where
    not one example fits, or not as many as `shots`; `TemplateError` where a label cannot follow
    its prompt as tokens of its own.
    """
    # Most texts are tokenized twice, to be counted and to be stored, and some are equal.
    tokenizers = {which: _Remembered(tokenize) for which, tokenize in tokenizers.items()}
    labels = {
        which: label_tokens(writer, tokenize, voters[0]) for which, tokenize in tokenizers.items()
    }
    longest_label = max(len(ids) for several in labels.values() for ids in several)
    # A label is generated whole, or scored behind the prompt, however small `max_tokens` is.
    reserve = max(max_tokens, longest_label)
    packers = [
        _Packer(voter, writer, tuple(tokenizers.values()), limit - reserve, seed)
        for voter in voters
    ]
    counts = _counts(packers, shots) if examples is None else examples
    shown: list[tuple[Item, ...]] = []
    prompts: list[Prompt] = []
    for voter, packer, count in zip(voters, packers, counts, strict=True):
        shown.append(packer.examples(count))
        body = writer.body(shown[-1])
        roles: list[tuple[Role, Sequence[Item]]] = [
            ("query", voter.queries),
            ("calibration", voter.calibration),
        ]
        for role, items in roles:
            prompts += [
                Prompt(voter.index, role, position, item.row, item.label, text)
                for position, (item, text) in enumerate(
                    zip(items, writer.prompts(body, items), strict=True)
                )
            ]
    examples_shown = sum(map(len, shown))
    example_tokens = sum(one.tokens_of(items) for one, items in zip(packers, shown, strict=True))
    texts = [prompt.text for prompt in prompts]
    return Packed(
        prompts=tuple(prompts),
        shown=tuple(shown),
        token_ids={which: tokenize(texts) for which, tokenize in tokenizers.items()},
        labels=labels,
        stop=writer.template.stop,
        limit=limit,
        reserve=reserve,
        tokens_per_example=example_tokens / examples_shown if examples_shown else None,
    )


def label_tokens(writer: Writer, tokenize: Tokenize, voter: Voter) -> tuple[tuple[int, ...], ...]:
    """The tokens with which a reply that is a label goes on from a prompt.

    The prompt is tokenized with and without each label behind it: what is more is the label. Where
    a tokenizer would join the two, a model could not write the label, and that is an error.
    """
    prompt = writer.prompt(writer.body(voter.examples[:2]), voter.queries[0])
    answers = writer.answers()
    before, *whole = tokenize([prompt, *(prompt + answer for answer in answers)])
    labels = []
    for answer, ids in zip(answers, whole, strict=True):
        if list(ids[: len(before)]) != list(before) or len(ids) == len(before):
            raise TemplateError(
                f"with this tokenizer the label {answer!r} joins the end of the prompt",
                remedy="Let `query` end, and `answer` begin, at a clean break such as a space.",
            )
        labels.append(tuple(ids[len(before) :]))
    for label in labels:
        if any(other[: len(label)] == label for other in labels if other is not label):
            raise TemplateError(
                f"one of the labels {', '.join(map(repr, answers))} begins another, as tokens",
                remedy="Give the classes words with different beginnings under [labels].",
            )
    return tuple(labels)


class _Remembered:
    """A tokenizer that is given each text once."""

    def __init__(self, tokenize: Tokenize) -> None:
        self._tokenize = tokenize
        self._known: dict[str, Sequence[int]] = {}

    def __call__(self, texts: Sequence[str]) -> Sequence[Sequence[int]]:
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        if new:
            self._known.update(zip(new, self._tokenize(new), strict=True))
        return [self._known[text] for text in texts]


class _Packer:
    """Finds the most examples of one voter."""

    def __init__(
        self, voter: Voter, writer: Writer, tokenizers: Sequence[Tokenize], room: int, seed: int
    ) -> None:
        self._voter = voter
        self._writer = writer
        self._tokenizers = tokenizers
        self._room = room
        # A key an example gives any number of them one order, so growing by one moves none.
        self._keys = np.random.default_rng([seed, voter.index, 1]).random(len(voter.examples))
        self._items = (*voter.queries, *voter.calibration)

    def examples(self, count: int) -> tuple[Item, ...]:
        """The first `count` examples, classes balanced, in shuffled order."""
        chosen = range(min(count, len(self._voter.examples)))
        return tuple(self._voter.examples[i] for i in sorted(chosen, key=self._keys.__getitem__))

    def most(self) -> int:
        """The largest number of examples with which every prompt of the voter fits."""
        lengths = self._lengths((), self._items)
        probe = self._items[lengths.index(max(lengths))]
        low, high = 0, len(self._voter.examples)
        while low < high:
            middle = (low + high + 1) // 2
            if self._longest(self.examples(middle), [probe]) <= self._room:
                low = middle
            else:
                high = middle - 1
        # The probe is the longest prompt without examples. Behind examples another may be longer,
        # as a tokenizer may join what stands where the two meet.
        while low > 0 and not self.holds(low):
            low -= 1
        if low == 0:
            needed = self._longest(self.examples(1), self._items)
            raise UsageError(
                f"not one example fits: a prompt with one takes {needed} tokens, and {self._room} "
                "are left beside the reply",
                remedy="Raise --max-model-len, or show fewer or shorter numbers "
                "(--reducer, --encoding).",
            )
        return low

    def holds(self, count: int) -> bool:
        """Whether every prompt of the voter fits with so many examples."""
        return self._longest(self.examples(count), self._items) <= self._room

    def tokens_of(self, examples: Sequence[Item]) -> int:
        """Tokens that the examples add to the voter's prompts."""
        # Any one will do: the query is in both, so its tokens go out of the difference.
        query = self._items[:1]
        return self._longest(examples, query) - self._longest((), query)

    def _longest(self, examples: Sequence[Item], items: Sequence[Item]) -> int:
        return max(self._lengths(examples, items))

    def _lengths(self, examples: Sequence[Item], items: Sequence[Item]) -> list[int]:
        """Tokens of each prompt, by the tokenizer that needs most."""
        texts = self._writer.prompts(self._writer.body(examples), items)
        counts = (map(len, tokenize(texts)) for tokenize in self._tokenizers)
        return [max(several) for several in zip(*counts, strict=True)]


def _counts(packers: Sequence[_Packer], shots: int | None) -> list[int]:
    """How many examples each voter shows: as many as fit, or `shots`."""
    if shots is None:
        return [packer.most() for packer in packers]
    if not all(packer.holds(shots) for packer in packers):
        # The most is looked for only where it has to be named: it takes many countings.
        most = min(packer.most() for packer in packers)
        raise UsageError(
            f"--shots {shots}: at most {most} whole examples fit",
            remedy="Lower --shots, or raise --max-model-len.",
        )
    return [shots] * len(packers)


def text_sha256(text: str) -> str:
    # A text from outside may have half of a surrogate pair, which UTF-8 cannot write.
    return hashlib.sha256(text.encode("utf-8", errors="replace")).hexdigest()
