"""The record of labelled embeddings, and the hash that says whether two runs had the same."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Vectors: TypeAlias = NDArray[np.float32]
Split: TypeAlias = tuple[Vectors, NDArray[np.int64]]
"""X (n, d) and y (n,), the rows of one split in the order in which they were read."""


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """Embeddings and their labels, in two splits.

    X_*: float32 (n, d), finite. y_*: int64 (n,), indices into `classes`, which are sorted.
    `train_test_duplicates`: test vectors that also occur in train, equal in every byte. `sha256` is
    `data_sha256` of it all: what makes two datasets the same, whatever they are called.
    """

    name: str
    classes: tuple[str, ...]
    X_train: Vectors
    y_train: NDArray[np.int64]
    X_test: Vectors
    y_test: NDArray[np.int64]
    train_test_duplicates: int
    sha256: str


def make_dataset(name: str, classes: tuple[str, ...], train: Split, test: Split) -> Dataset:
    """The dataset of what was read, with what is counted and hashed of it."""
    return Dataset(
        name=name,
        classes=classes,
        X_train=train[0],
        y_train=train[1],
        X_test=test[0],
        y_test=test[1],
        train_test_duplicates=count_shared_vectors(train[0], test[0]),
        sha256=data_sha256(classes, train, test),
    )


def count_shared_vectors(X_train: Vectors, X_test: Vectors) -> int:
    """How many rows of X_test (n, d) occur in X_train (m, d), byte for byte."""
    seen = {row.tobytes() for row in X_train}
    return sum(row.tobytes() in seen for row in X_test)


def data_sha256(classes: Sequence[str], train: Split, test: Split) -> str:
    """SHA-256 of the rows as they were read and of the class names; not of where they were read.

    The kind of data ("vectors"), the number of classes and each name in UTF-8, then for train and
    for test: the shape of X, X as float32 and y as int64. All numbers are little-endian, and each
    of these parts has its length in bytes before it, so that no two contents are one text.
    """
    digest = hashlib.sha256()

    def add(content: bytes | memoryview) -> None:
        digest.update(len(content).to_bytes(8, "little"))
        digest.update(content)

    # A folder's name may hold bytes that are no text: they get through as lone surrogates.
    names = [name.encode("utf-8", errors="surrogatepass") for name in classes]
    for text in (b"vectors", len(names).to_bytes(8, "little"), *names):
        add(text)
    for X, y in (train, test):
        shape = np.array(X.shape, dtype="<i8")
        for part in (shape, X.astype("<f4", copy=False), y.astype("<i8", copy=False)):
            # The bytes in place: `tobytes` would take as much memory again.
            add(np.ascontiguousarray(part).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
