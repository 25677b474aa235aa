"""What an encoder is: how one voter sees the rows of a dataset, and which it may show.

There is one for vectors and one for texts. What follows them (dealing, packing, templates) is the
same for both: an item has the words that stand for it in a prompt, whatever they were made of.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from harness.spec import RunSpec
from harness.workload.dataset import Dataset

Indices: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Item:
    """One row as a voter shows it.

    `row` is an index into X_train (examples, calibration) or X_test (queries), `label` one into
    the dataset's classes. `words` are the numbers of a vector, or the text alone.
    """

    row: int
    label: int
    words: tuple[str, ...]


class Encoder(Protocol):
    """`features`: the columns that the voter sees, ascending. `candidates`: the training rows that
    it may show."""

    @property
    def features(self) -> tuple[int, ...]: ...
    @property
    def candidates(self) -> Indices: ...
    def items(self, X: NDArray[Any], y: Indices, rows: Indices) -> Sequence[Item]:
        """These rows of a split, in this order."""

    def in_encoding(self, text: str, dataset: Dataset) -> Self:
        """The same, for data with numbers, with another `encoding` of the spec."""
        ...


Fit: TypeAlias = Callable[[Dataset, RunSpec, np.random.Generator], Encoder]
"""Fits the encoder of one voter. What it draws comes from the voter's stream."""
