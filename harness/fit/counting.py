"""How many tokens each example adds to a prompt, counted without a text that holds all of them.

Tokenizers break a text at clean breaks, such as a line feed or the space before a number. So an
example adds the same tokens wherever it stands, and a word adds the same tokens to whatever example
it stands in. 100,000 examples of bins are then counted with a few hundred short texts.

None of this is taken for granted. What the words say of an example is compared with examples as
they stand in a text, and `harness.fit.gauge` compares what all examples add with whole prompts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import islice
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from harness.workload.encoders import Item
from harness.workload.prompt import Writer
from harness.workload.vectors import VectorItems

Count: TypeAlias = Callable[[Sequence[str]], Sequence[int]]
"""Tokens of each text, with the one that the model wants first."""
Counts: TypeAlias = NDArray[np.int64]

_TEXTS = 256  # to a tokenizer at a time
_MOST_WORDS = 20_000  # beyond these, examples are counted one by one
_COMPARED = 200  # examples


class ExampleCounter:
    """Counts the examples of one template by one tokenizer. All have equally many words."""

    def __init__(self, writer: Writer, count: Count) -> None:
        self._writer = writer
        self._count = count
        self._words: _Words | None = None

    def tokens(self, examples: Sequence[Item]) -> tuple[Counts, Counts]:
        """The row of each example, and what it adds to a prompt that has examples already."""
        if isinstance(examples, VectorItems):
            if self._words is None:
                self._words = _Words(self._writer, self._count, examples[0])
            found = self._words.tokens(examples)
            if found is not None and self._is_right(found, examples):
                return examples.rows, found
        rows = np.array([one.row for one in examples], dtype=np.int64)
        return rows, self._one_by_one(examples, examples)

    def _is_right(self, found: Counts, examples: Sequence[Item]) -> bool:
        places = np.unique(np.linspace(0, len(found) - 1, _COMPARED, dtype=np.int64))
        some = [examples[int(place)] for place in places]
        return bool((self._one_by_one(some, examples) == found[places]).all())

    def _one_by_one(self, some: Sequence[Item], examples: Sequence[Item]) -> Counts:
        return _added(self._writer, self._count, some, self._writer.body(examples[:1]))


class _Words:
    """What each word adds, by its place: the first of an example, the last, or one between."""

    def __init__(self, writer: Writer, count: Count, sample: Item) -> None:
        self._writer = writer
        self._count = count
        self._sample = sample
        self._anchor = writer.body([sample])
        [self._base] = self._tokens([sample])
        labels = [replace(sample, label=one) for one in range(len(writer.words))]
        self._labels = self._tokens(labels) - self._base
        self._first: dict[str, int] = {}
        self._last: dict[str, int] = {}
        self._between: dict[str, int] = {}

    def tokens(self, examples: VectorItems) -> Counts | None:
        """`None` where the words are too many to know them all."""
        coded = examples.coded()
        if len(coded.words) > _MOST_WORDS:
            return None
        first, behind = coded.places[:, :1], coded.places[:, 1:]
        between, last = behind[:, :-1], behind[:, -1:]
        totals: Counts = self._base + self._labels[examples.labels]
        for places, known, at in (
            (first, self._first, 0),
            (last, self._last, len(self._sample.words) - 1),
            (between, self._between, 1),
        ):
            # Counted, not sorted: there are few words, and a million places.
            used = np.bincount(places.ravel(), minlength=len(coded.words)) > 0
            self._learn(coded.words[used].tolist(), known, at)
            of_word = np.array([known.get(word, 0) for word in coded.words], dtype=np.int64)
            totals += of_word[places].sum(axis=1)
        return totals

    def _learn(self, words: Sequence[str], known: dict[str, int], at: int) -> None:
        new = [word for word in words if word not in known]
        before, after = self._sample.words[:at], self._sample.words[at + 1 :]
        written = [replace(self._sample, words=(*before, word, *after)) for word in new]
        known.update(zip(new, (self._tokens(written) - self._base).tolist(), strict=True))

    def _tokens(self, items: Sequence[Item]) -> Counts:
        return _added(self._writer, self._count, items, self._anchor)


def _added(writer: Writer, count: Count, items: Sequence[Item], anchor: str) -> Counts:
    """What each of the items, as an example, adds behind the text `anchor`."""
    [alone] = count([anchor])
    counts: list[int] = []
    left = iter(items)
    while some := list(islice(left, _TEXTS)):
        counts += count([anchor + writer.example(one) for one in some])
    return np.array(counts, dtype=np.int64) - alone
