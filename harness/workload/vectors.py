"""Vectors as a voter sees them: some features, reduced to a few numbers, written as words.

A voter fits its reducer to a bootstrap sample and shows rows from outside that sample (out of bag):
numbers of rows that the reducer was fitted to look better than those of a query ever will.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import overload

import numpy as np

from harness.errors import DataError
from harness.spec import RunSpec
from harness.workload.dataset import Dataset, Vectors
from harness.workload.encoders import Indices, Item
from harness.workload.encoding import Coded, Encoding, fit_encoding
from harness.workload.reducers import Floats, Reducer, fit_reducer

_BLOCK = 1024  # rows that are written at a time


@dataclass(frozen=True, slots=True, eq=False)
class VectorItems(Sequence[Item]):
    """Items whose words are written when they are looked at: of 100,000 rows a voter shows some.

    `numbers` are all reduced at once, because a product of matrices may round differently for
    fewer rows, and then other words would stand for a row.
    """

    numbers: Floats
    encoding: Encoding
    y: Indices
    rows: Indices

    @property
    def labels(self) -> Indices:
        labels: Indices = self.y[self.rows]
        return labels

    def coded(self) -> Coded:
        """All their words."""
        return self.encoding.coded(self.numbers)

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, at: int) -> Item: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[Item]: ...
    def __getitem__(self, at: int | slice) -> Item | Sequence[Item]:
        if isinstance(at, slice):
            return replace(self, numbers=self.numbers[at], rows=self.rows[at])
        [item] = self[at : at + 1 or None]
        return item

    def __iter__(self) -> Iterator[Item]:
        for begin in range(0, len(self.rows), _BLOCK):
            rows = self.rows[begin : begin + _BLOCK]
            words = self.encoding.encode(self.numbers[begin : begin + _BLOCK])
            for row, label, text in zip(rows.tolist(), self.y[rows].tolist(), words, strict=True):
                yield Item(row, label, text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]  # as any sequence that is equal by its items


@dataclass(frozen=True, slots=True, eq=False)
class VectorEncoder:
    columns: Indices
    reducer: Reducer
    encoding: Encoding
    candidates: Indices

    @property
    def features(self) -> tuple[int, ...]:
        return tuple(self.columns.tolist())

    def items(self, X: Vectors, y: Indices, rows: Indices) -> Sequence[Item]:
        if not rows.size:
            return ()
        numbers = self.reducer(X[np.ix_(rows, self.columns)])
        return VectorItems(numbers, self.encoding, y, rows)

    def in_encoding(self, text: str, dataset: Dataset) -> VectorEncoder:
        """The same numbers, written in another way. Raises `UsageError` where the text is wrong."""
        # In the two steps of `fit_vectors`, which give the same numbers to the last digit.
        numbers = self.reducer(dataset.X_train[:, self.columns][self.candidates])
        return replace(self, encoding=fit_encoding(text, numbers))


def fit_vectors(dataset: Dataset, spec: RunSpec, rng: np.random.Generator) -> VectorEncoder:
    """Raises `UsageError` for a reducer or an encoding that cannot be, `DataError` where a class
    has no out-of-bag row to show."""
    # The order of the draws decides what each of them gives: to change it changes the prompts of
    # every seed.
    columns = _draw_features(dataset.X_train.shape[1], spec.feature_fraction, rng)
    fitted, candidates = _draw_rows(dataset, spec.bootstrap, rng)
    X, y = dataset.X_train[:, columns], dataset.y_train
    reducer = fit_reducer(spec.reducer, X[fitted], y[fitted], int(rng.integers(2**32)))
    # Edges come from the rows that are shown: in the bag, numbers spread wider than a query's do.
    encoding = fit_encoding(spec.encoding, reducer(X[candidates]))
    return VectorEncoder(columns, reducer, encoding, candidates)


def _draw_features(width: int, fraction: float, rng: np.random.Generator) -> Indices:
    return np.sort(rng.choice(width, size=max(1, round(width * fraction)), replace=False))


def _draw_rows(
    dataset: Dataset, bootstrap: bool, rng: np.random.Generator
) -> tuple[Indices, Indices]:
    """The train rows that fit the reducer, and those that may be shown.

    The bootstrap is drawn within each class, so that none is missing from the sample.
    """
    everyone = np.arange(len(dataset.y_train))
    if not bootstrap:
        return everyone, everyone
    members = [np.flatnonzero(dataset.y_train == label) for label in range(len(dataset.classes))]
    # So about 37 % (1 / e) of the rows stay outside, to be shown.
    bag = np.concatenate([rng.choice(rows, size=len(rows)) for rows in members])
    outside = np.setdiff1d(everyone, bag)
    for name, rows in zip(dataset.classes, members, strict=True):
        if not np.isin(rows, outside).any():
            raise DataError(
                f"{dataset.name}: all {len(rows)} training rows of class {name} fell into a "
                "voter's bootstrap sample, so none is left to show",
                remedy="Give more training rows of it, or use --no-bootstrap.",
            )
    return bag, outside
