"""Packing: how many whole examples fit into a context, counted with the models' own tokenizers.

Nothing is estimated: a voter holds k examples if its longest prompt with k of them, tokenized
whole, leaves room for the reply, and with k + 1 it does not.

Texts may be of any length. One that takes more than half of the room is too long: it is no example,
and as a query it does not decide how many examples all other queries get. Its prompt may then not
fit, which is an error of that prompt alone.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice, pairwise
from typing import Literal, TypeAlias

import numpy as np

from harness.errors import TemplateError, UsageError
from harness.workload.encoders import Item
from harness.workload.prompt import Writer
from harness.workload.voters import Voter

_MEASURED = 64  # texts at a time
_LONGEST_TOKEN = 256  # characters
_REPLY_TOKENS = 8  # enough for the labels of most data, and little to pay for
_END_TOKENS = 1  # a line feed, or the model's own end: without it a label counts as cut off

Tokenize: TypeAlias = Callable[[Sequence[str]], Sequence[Sequence[int]]]
Role: TypeAlias = Literal["query", "calibration", "shuffled"]
"""What a prompt is for. Of a shuffled one the examples have their labels shuffled."""

MOST_COUNTED = 2**21
"""Characters of all examples of all voters that are counted although they do not fit."""


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
    reply. `tokens_per_example` is `None` where no example is shown. `too_long` are the training
    rows whose texts were passed over as too long, ascending. `all_tokens`: of the longest
    prompt and its reply with every example that a voter has, of the voter and by the tokenizer that
    need most; `None` where that fits, or is too long to be counted.
    """

    prompts: tuple[Prompt, ...]
    shown: tuple[tuple[Item, ...], ...]
    token_ids: Mapping[str, Sequence[Sequence[int]]]
    labels: Mapping[str, tuple[tuple[int, ...], ...]]
    stop: tuple[str, ...]
    limit: int
    reserve: int
    tokens_per_example: float | None
    too_long: tuple[int, ...] = ()
    all_tokens: int | None = None


def pack(
    voters: Sequence[Voter],
    writer: Writer,
    tokenizers: Mapping[str, Tokenize],
    *,
    limit: int,
    max_tokens: int | None,
    shots: int | None,
    seed: int,
    examples: Sequence[int] | None = None,
    too_long: Collection[int] | None = None,
    with_shuffled: bool = False,
) -> Packed:
    """Packs every voter. With one tokenizer for each vocabulary, the smallest fit holds for all.

    `examples` fixes how many each voter shows, whether they fit or not; `too_long` then says which
    training rows are not shown, instead of their lengths. `with_shuffled`: each query has another
    prompt, behind the same examples in the same order, among which the labels are shuffled.
    Raises `UsageError` where not one example fits, or not as many as `shots`; `TemplateError` where
    a label cannot follow its prompt as tokens of its own.
    """
    # Most texts are tokenized twice, to be counted and to be stored, and some are equal.
    tokenizers = {which: _Remembered(tokenize) for which, tokenize in tokenizers.items()}
    labels = {
        which: label_tokens(writer, tokenize, voters[0]) for which, tokenize in tokenizers.items()
    }
    reserve = reserve_of(max_tokens, *labels.values())
    ruler = Ruler(writer, tuple(tokenizers.values()), limit - reserve, too_long)
    packers = [Packer(voter, ruler, seed) for voter in voters]
    counts = _counts(packers, shots) if examples is None else examples
    shown: list[tuple[Item, ...]] = []
    prompts: list[Prompt] = []
    for voter, packer, count in zip(voters, packers, counts, strict=True):
        shown.append(packer.examples(count))
        rng = np.random.default_rng([seed, voter.index, 2]) if with_shuffled else None
        prompts += _prompts_behind(shown[-1], voter, packer.calibration, writer, rng)
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
        too_long=tuple(sorted(ruler.too_long)),
        all_tokens=_all_tokens(packers, reserve)
        if any(len(own) < len(one.examples) for own, one in zip(shown, voters, strict=True))
        else None,
    )


def _prompts_behind(
    examples: Sequence[Item],
    voter: Voter,
    calibration: Sequence[Item],
    writer: Writer,
    shuffling: np.random.Generator | None,
) -> Iterator[Prompt]:
    """The prompts of a voter that shows these examples; with `shuffling`, each query once more
    behind examples whose labels are shuffled by it."""
    body = writer.body(examples)
    roles: list[tuple[Role, str, Sequence[Item]]] = [
        ("query", body, voter.queries),
        ("calibration", body, calibration),
    ]
    if shuffling is not None:
        roles.append(("shuffled", writer.body(_shuffled(examples, shuffling)), voter.queries))
    for role, behind, items in roles:
        texts = writer.prompts(behind, items)
        for position, (item, text) in enumerate(zip(items, texts, strict=True)):
            yield Prompt(voter.index, role, position, item.row, item.label, text)


def _all_tokens(packers: Sequence[Packer], reserve: int) -> int | None:
    """Of the longest prompt with every example, and of its reply; `None` where to count that would
    take too long."""
    characters = 0
    for packer in packers:
        for item in packer.everything:
            characters += sum(map(len, item.words))
            if characters > MOST_COUNTED:
                return None
    return max(packer.all_tokens() for packer in packers) + reserve


def reserve_of(max_tokens: int | None, *labels: Sequence[Sequence[int]]) -> int:
    """The room for a reply, with these tokens of the labels in each vocabulary."""
    longest_label = max(len(ids) for several in labels for ids in several)
    if max_tokens is None:
        return max(_REPLY_TOKENS, longest_label + _END_TOKENS)
    # A label is generated whole, or scored behind the prompt, however small `max_tokens` is.
    return max(max_tokens, longest_label)


def _shuffled(examples: Sequence[Item], rng: np.random.Generator) -> list[Item]:
    """The examples with each other's labels."""
    labels = rng.permutation([example.label for example in examples]).tolist()
    return [replace(item, label=label) for item, label in zip(examples, labels, strict=True)]


def label_tokens(writer: Writer, tokenize: Tokenize, voter: Voter) -> tuple[tuple[int, ...], ...]:
    """The tokens with which a reply that is a label goes on from a prompt.

    The prompt is tokenized with and without each label behind it: what is more is the label. Where
    a tokenizer would join the two, a model could not write the label, and that is an error.
    """
    prompt = writer.prompt(writer.body(voter.examples[:2]), voter.queries[0])
    answers = writer.answers()
    labels = _behind(prompt, answers, tokenize)
    if _is_one_the_beginning_of_another(labels):
        # Such as `sport` and `sport news`: what ends a label tells them apart.
        labels = _behind(prompt, [answer + writer.end for answer in answers], tokenize)
    if _is_one_the_beginning_of_another(labels):
        raise TemplateError(
            f"one of the labels {', '.join(map(repr, answers))} begins another, as tokens",
            remedy="Give the classes words with different beginnings under [labels].",
        )
    return labels


def _behind(prompt: str, answers: Sequence[str], tokenize: Tokenize) -> tuple[tuple[int, ...], ...]:
    before, *whole = tokenize([prompt, *(prompt + answer for answer in answers)])
    for answer, ids in zip(answers, whole, strict=True):
        if list(ids[: len(before)]) != list(before) or len(ids) == len(before):
            raise TemplateError(
                f"with this tokenizer the label {answer!r} joins the end of the prompt",
                remedy="Let `query` end, and `answer` begin, at a clean break such as a space.",
            )
    return tuple(tuple(ids[len(before) :]) for ids in whole)


def _is_one_the_beginning_of_another(labels: Sequence[tuple[int, ...]]) -> bool:
    # In their order, a label that begins another stands right before one that it begins.
    ordered = sorted(labels)
    return any(after[: len(label)] == label for label, after in pairwise(ordered))


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


class Ruler:
    """Measures texts: `room` is in tokens, without the reply.

    `too_long` collects the training rows that are; those that are `known` are not measured.
    """

    def __init__(
        self,
        writer: Writer,
        tokenizers: Sequence[Tokenize],
        room: int,
        known: Collection[int] | None,
    ) -> None:
        self.writer = writer
        self.room = room
        self.too_long = set[int]()
        self._tokenizers = tokenizers
        self._known = known

    def lengths(self, examples: Sequence[Item], items: Sequence[Item]) -> list[int]:
        """Tokens of each item's prompt, by the tokenizer that needs most."""
        return self._tokens(self.writer.prompts(self.writer.body(examples), items))

    def fitting(self, items: Sequence[Item]) -> list[Item]:
        """Those that are not too long. Vectors are all of one length, and none is."""
        if self.writer.kind == "vectors":
            return list(items)
        most = self.room // 2
        texts = [text for item in items for text in item.words]
        # No tokenizer makes more tokens of a text than it has bytes, and none has tokens so long
        # that megabytes would have to be counted.
        fits = {text for text in texts if len(text.encode()) <= most}
        doubtful = [
            text for text in texts if text not in fits and len(text) <= most * _LONGEST_TOKEN
        ]
        lengths = self._tokens(doubtful)
        fits.update(text for text, n in zip(doubtful, lengths, strict=True) if n <= most)
        return [item for item in items if fits.issuperset(item.words)]

    def training(self, items: Sequence[Item]) -> list[Item]:
        """Those training rows that are not too long."""
        if self._known is None:
            left = self.fitting(items)
        else:
            left = [item for item in items if item.row not in self._known]
        self.too_long |= {item.row for item in items} - {item.row for item in left}
        return left

    def _tokens(self, texts: Sequence[str]) -> list[int]:
        counts = (map(len, tokenize(texts)) for tokenize in self._tokenizers)
        return [max(several) for several in zip(*counts, strict=True)]


class Packer:
    """Finds the most examples of one voter.

    `items` are what decides that: its queries and calibration examples. `known` are examples in the
    order of showing, as many as were looked for so far.
    """

    def __init__(self, voter: Voter, ruler: Ruler, seed: int) -> None:
        self.calibration = ruler.training(voter.calibration)
        self._voter = voter
        self._ruler = ruler
        # A key an example gives any number of them one order, so growing by one moves none.
        self._keys = np.random.default_rng([seed, voter.index, 1]).random(len(voter.examples))
        self.items = [*ruler.fitting(voter.queries), *self.calibration]
        self.known: list[Item] = []
        self._rest = self._not_too_long()

    def examples(self, count: int) -> tuple[Item, ...]:
        """The first `count` examples, classes balanced, in shuffled order."""
        chosen = range(min(count, self.available(count)))
        return tuple(self.known[i] for i in sorted(chosen, key=self._keys.__getitem__))

    def most(self) -> int:
        """The largest number of examples with which every prompt of the voter fits."""
        probe = self._longest_alone()

        def fits(count: int) -> bool:
            return self._longest(self.examples(count), [probe]) <= self._ruler.room

        low, high = 0, 1
        # By doubling: a voter may have a million examples, and shows some.
        while self.available(high) >= high and fits(high):
            low, high = high, 2 * high
        high = min(high - 1, self.available(high))
        while low < high:
            middle = (low + high + 1) // 2
            if fits(middle):
                low = middle
            else:
                high = middle - 1
        # The probe is the longest prompt without examples. Behind examples another may be longer,
        # as a tokenizer may join what stands where the two meet.
        while low > 0 and not self.holds(low):
            low -= 1
        if low == 0:
            raise self._too_small()
        return low

    def holds(self, count: int) -> bool:
        """Whether every prompt of the voter fits with so many examples."""
        return self._longest(self.examples(count), self.items) <= self._ruler.room

    def tokens_of(self, examples: Sequence[Item]) -> int:
        """Tokens that the examples add to the voter's prompts."""
        # Any one will do: the query is in both, so its tokens go out of the difference.
        query = self._voter.queries[:1]
        return self._longest(examples, query) - self._longest((), query)

    @property
    def everything(self) -> Sequence[Item]:
        """Every example of the voter."""
        return self._voter.examples

    def all_tokens(self) -> int:
        """Tokens of the longest prompt with every example."""
        _, query = self.longest(self.examples(1))
        return self._longest(self.everything, [query])

    def longest(self, examples: Sequence[Item]) -> tuple[int, Item]:
        """Tokens of the longest prompt behind these examples, and whose it is. Where each query is
        too long, the longest of them counts."""
        items = self.items or self._voter.queries
        lengths = self._ruler.lengths(examples, items)
        return max(lengths), items[lengths.index(max(lengths))]

    def _longest_alone(self) -> Item:
        if not self.items:
            raise self._too_small()
        return self.longest(())[1]

    def _longest(self, examples: Sequence[Item], items: Sequence[Item]) -> int:
        return max(self._ruler.lengths(examples, items), default=0)

    def available(self, count: int) -> int:
        """How many examples are known, once it is known whether there are `count`."""
        self.known += islice(self._rest, max(0, count - len(self.known)))
        return len(self.known)

    def _not_too_long(self) -> Iterator[Item]:
        """The voter's examples in order, in rounds of one of each class, without those that are too
        long: the next one of its class stands in for each."""
        examples = self._voter.examples
        if self._ruler.writer.kind == "vectors":
            yield from examples
            return
        waiting: list[deque[tuple[int, Item]]] = [deque() for _ in self._ruler.writer.words]
        place = 0
        for begin in range(0, len(examples), _MEASURED):
            for item in self._ruler.training(examples[begin : begin + _MEASURED]):
                waiting[item.label].append((place, item))
                place += 1
                if all(waiting):
                    # In the order in which they came, so that no class is always the first.
                    yield from (item for _, item in sorted(one.popleft() for one in waiting))

    def _too_small(self) -> UsageError:
        room, is_text = self._ruler.room, self._ruler.writer.kind == "text"
        examples = self.examples(1)
        if not self.items or not examples:
            return UsageError(
                f"not one example fits: every {'query' if not self.items else 'example'} of a "
                f"class takes more than half of the {room} tokens that are left beside the reply",
                remedy="Raise --max-model-len, or give shorter texts.",
            )
        needed = self._longest(examples, self.items)
        return UsageError(
            f"not one example fits: a prompt with one takes {needed} tokens, and {room} are left "
            "beside the reply",
            remedy="Raise --max-model-len, or give shorter texts."
            if is_text
            else "Raise --max-model-len, or show fewer or shorter numbers (--reducer, --encoding).",
        )


def _counts(packers: Sequence[Packer], shots: int | None) -> list[int]:
    """How many examples each voter shows: as many as fit, or `shots`."""
    if shots is None:
        return [packer.most() for packer in packers]
    # A voter that shows all that it has is no limit.
    if short := [packer for packer in packers if not packer.holds(shots)]:
        # The most is looked for only where it has to be named: it takes many countings.
        most = min(packer.most() for packer in short)
        raise UsageError(
            f"--shots {shots}: at most {most} whole examples fit",
            remedy="Lower --shots, or raise --max-model-len.",
        )
    return [shots] * len(packers)


def text_sha256(text: str) -> str:
    # A text from outside may have half of a surrogate pair, which UTF-8 cannot write.
    return hashlib.sha256(text.encode("utf-8", errors="replace")).hexdigest()
