"""How many tokens each example adds to a prompt, counted without a text that holds all of them.

Tokenizers break a text at clean breaks, such as a line feed or the space before a number. So an
example adds the same tokens wherever it stands, and a word adds the same tokens to whatever example
it stands in. 100,000 examples of bins are then counted with a few hundred short texts.

None of this is taken for granted. What the words say of an example is compared with examples as
they stand in a text, and `harness.fit.gauge` compares what all examples add with whole prompts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from harness.workload.encoders import Item
from harness.workload.prompt import Writer

Count: TypeAlias = Callable[[Sequence[str]], Sequence[int]]
"""Tokens of each text, with the one that the model wants first."""
Counts: TypeAlias = NDArray[np.int64]

_BLOCK = 4096  # examples
_TEXTS = 256  # to a tokenizer at a time
_MOST_WORDS = 20_000  # of a place; beyond it, examples are counted one by one
_COMPARED = 200  # examples


class ExampleCounter:
    """Counts the examples of one template by one tokenizer. All have equally many words."""

    def __init__(self, writer: Writer, count: Count) -> None:
        self._writer = writer
        self._count = count
        self._model: _Words | None = None

    def tokens(self, examples: Sequence[Item]) -> Counts:
        """What each example adds to a prompt that has examples already."""
        if not len(examples):
            return np.zeros(0, dtype=np.int64)
        anchor = self._writer.body(examples[:1])
        if self._writer.kind == "vectors":
            if self._model is None:
                self._model = _Words(self._writer, self._count, examples[0])
            found = self._model.tokens(examples)
            if found is not None and self._is_right(found, examples, anchor):
                return found
        return self._one_by_one(examples, anchor)

    def _is_right(self, found: Counts, examples: Sequence[Item], anchor: str) -> bool:
        places = np.unique(np.linspace(0, len(found) - 1, _COMPARED, dtype=np.int64))
        some = [examples[int(place)] for place in places]
        return bool((self._one_by_one(some, anchor) == found[places]).all())

    def _one_by_one(self, examples: Sequence[Item], anchor: str) -> Counts:
        [alone] = self._count([anchor])
        counts: list[int] = []
        for some in _blocks(examples, _TEXTS):
            counts += self._count([anchor + self._writer.example(one) for one in some])
        return np.array(counts, dtype=np.int64) - alone


class _Words:
    """What each word adds, by its place: the first of an example, the last, or one between."""

    def __init__(self, writer: Writer, count: Count, sample: Item) -> None:
        self._writer = writer
        self._count = count
        self._sample = sample
        self._anchor = writer.body([sample])
        [self._alone] = count([self._anchor])
        [self._base] = self._added([sample])
        self._labels = dict(
            enumerate(
                self._more([replace(sample, label=one) for one in range(len(writer.words))])
            )
        )
        width = len(sample.words)
        places = [0, width - 1, 1][: min(width, 3)]
        self._known: list[tuple[int, dict[str, int]]] = [(place, {}) for place in places]

    def tokens(self, examples: Sequence[Item]) -> Counts | None:
        """`None` where the words are too many to know them all."""
        totals: list[int] = []
        for some in _blocks(examples, _BLOCK):
            if not self._learn(some):
                return None
            totals += self._totals(some)
        return np.array(totals, dtype=np.int64)

    def _learn(self, examples: Sequence[Item]) -> bool:
        for index, (place, known) in enumerate(self._known):
            if index < 2:
                words = {one.words[place] for one in examples}
            else:
                words = set().union(*(one.words[1:-1] for one in examples))
            new = sorted(words - known.keys())
            if len(new) + len(known) > _MOST_WORDS:
                return False
            before, after = self._sample.words[:place], self._sample.words[place + 1 :]
            written = [replace(self._sample, words=(*before, one, *after)) for one in new]
            known.update(zip(new, self._more(written), strict=True))
        return True

    def _totals(self, examples: Sequence[Item]) -> Iterator[int]:
        base, labels = self._base, self._labels
        tables = [known for _, known in self._known]
        if not tables:
            yield from (base + labels[one.label] for one in examples)
        elif len(tables) == 1:
            [only] = tables
            yield from (base + labels[one.label] + only[one.words[0]] for one in examples)
        else:
            first, last = tables[:2]
            between = (tables[2] if len(tables) > 2 else {}).__getitem__
            for one in examples:
                words = one.words
                ends = first[words[0]] + last[words[-1]]
                yield base + labels[one.label] + ends + sum(map(between, words[1:-1]))

    def _more(self, items: Sequence[Item]) -> list[int]:
        """What each adds beyond what the sample adds."""
        return [added - self._base for added in self._added(items)]

    def _added(self, items: Sequence[Item]) -> list[int]:
        counts: list[int] = []
        for some in _blocks(items, _TEXTS):
            counts += self._count([self._anchor + self._writer.example(one) for one in some])
        return [count - self._alone for count in counts]


def _blocks(items: Sequence[Item], size: int) -> Iterator[list[Item]]:
    left = iter(items)
    while block := list(islice(left, size)):
        yield block
