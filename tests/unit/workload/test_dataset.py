"""What makes two datasets the same: every number, label and class name, and nothing else."""

from __future__ import annotations

import hashlib
import struct
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from harness.workload.dataset import count_shared, data_sha256, make_dataset

CLASSES = ("cat", "dog")
X = np.arange(12, dtype=np.float32).reshape(4, 3)
Y = np.array([0, 0, 1, 1])


def sha256(
    classes: tuple[str, ...] = CLASSES,
    X_train: NDArray[Any] = X,
    y_train: NDArray[Any] = Y,
    X_test: NDArray[Any] = X[1:],
    y_test: NDArray[Any] = Y[1:],
) -> str:
    return data_sha256(classes, (X_train, y_train), (X_test, y_test))


def test_the_hash_is_of_the_parts_as_they_are_described() -> None:
    """Stored runs are paired by it: a change would make all data of the past other data."""
    parts = [
        b"vectors",
        struct.pack("<q", 2),
        b"cat",
        b"dog",
        struct.pack("<2q", 4, 3),
        struct.pack("<12f", *range(12)),
        struct.pack("<4q", 0, 0, 1, 1),
        struct.pack("<2q", 3, 3),
        struct.pack("<9f", *range(3, 12)),
        struct.pack("<3q", 0, 1, 1),
    ]
    framed = b"".join(struct.pack("<q", len(part)) + part for part in parts)
    assert sha256() == hashlib.sha256(framed).hexdigest()


def test_a_dataset_has_the_hash_of_its_content_whatever_its_name() -> None:
    one, other = (make_dataset(name, CLASSES, (X, Y), (X[1:], Y[1:])) for name in ("a", "b"))
    assert one.sha256 == other.sha256 == sha256()
    assert one.train_test_duplicates == 3


def test_how_arrays_lie_in_memory_makes_no_difference() -> None:
    assert sha256() == sha256(
        X_train=np.asfortranarray(X.astype(">f4")),
        y_train=Y.astype(">i8"),
        X_test=np.repeat(X, 2, axis=0)[2::2],
        y_test=np.array([1, 9, 1, 9, 0], dtype=np.int32)[::-2],
    )


def test_all_that_is_read_counts() -> None:
    tiny = X.copy()
    tiny[2, 1] = np.nextafter(tiny[2, 1], np.float32(np.inf))
    order = [1, 0, 2, 3]
    every = [
        sha256(),
        sha256(classes=("cat", "eel")),
        sha256(classes=("ca", "tdog")),
        sha256(classes=("cat", "dog", "eel")),
        sha256(X_train=tiny),
        sha256(X_train=X[order]),
        sha256(y_train=Y[[0, 2, 1, 3]]),
        sha256(X_train=X[:3], y_train=Y[:3], X_test=X, y_test=Y),
        sha256(X_train=X[1:], y_train=Y[1:], X_test=X, y_test=Y),
        sha256(X_train=X.reshape(3, 4), y_train=Y[:3]),
        sha256(X_train=X.reshape(6, 2), y_train=np.zeros(6, dtype=np.int64)),
    ]
    assert len(set(every)) == len(every)


@given(st.lists(st.text(max_size=3), min_size=2, max_size=4), st.integers(0, 3))
def test_names_do_not_run_into_each_other(names: list[str], at: int) -> None:
    joined = [*names[:at], "".join(names[at : at + 2]), *names[at + 2 :]]
    if joined != names:
        assert sha256(classes=tuple(joined)) != sha256(classes=tuple(names))


def test_a_class_may_be_called_what_is_no_text() -> None:
    assert sha256(classes=("cat", "\udcff")) != sha256(classes=("cat", "?"))


@given(hnp.arrays(np.float32, (6, 2), elements=st.sampled_from([0.0, 1.0])), st.integers(0, 6))
def test_shared_vectors_are_counted_as_rows_of_test(X: Any, cut: int) -> None:
    train, test = X[:cut], X[cut:]
    expected = sum(any((row == other).all() for other in train) for row in test)
    assert count_shared(train, test) == expected
