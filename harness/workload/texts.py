"""Texts as a voter sees them: as they are, each in one line.

Nothing is fitted, so there is nothing to hold out: a voter may show every training row, and voters
differ by which they draw.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np

from harness.spec import RunSpec
from harness.workload.dataset import Dataset, Texts, one_line
from harness.workload.encoders import Indices, Item


@dataclass(frozen=True, slots=True, eq=False)
class _Texts(Sequence[Item]):
    """Items that are made when they are looked at: of a million rows a voter shows a hundred."""

    X: Texts
    y: Indices
    rows: Indices

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, at: int) -> Item: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[Item]: ...
    def __getitem__(self, at: int | slice) -> Item | Sequence[Item]:
        if isinstance(at, slice):
            return _Texts(self.X, self.y, self.rows[at])
        row = int(self.rows[at])
        return Item(row, int(self.y[row]), (one_line(self.X[row]),))


@dataclass(frozen=True, slots=True, eq=False)
class TextEncoder:
    candidates: Indices
    features: tuple[int, ...] = ()

    def items(self, X: Texts, y: Indices, rows: Indices) -> Sequence[Item]:
        return _Texts(X, y, rows)

    def in_encoding(self, text: str, dataset: Dataset) -> TextEncoder:
        del text, dataset  # texts have no numbers
        return self


def fit_texts(dataset: Dataset, spec: RunSpec, rng: np.random.Generator) -> TextEncoder:
    del spec, rng  # nothing is drawn, and no field of the spec is about texts
    return TextEncoder(np.arange(len(dataset.y_train)))
