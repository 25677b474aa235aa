"""Row numbers among the numbers of a vector.

Tables are often written with the number of each row in front. It is no part of an embedding, and
it gives the class away where the rows once stood class by class.

By value, a column of whole numbers is taken for row numbers where it is one of these:
    counting    no two are equal, though of numbers drawn at random between the least and the
                greatest some would be: in the whole data, in each split, in each class, or in each
                class of each split
    ascending   each is greater than the one before, in each split
    unique      no two in a split are equal, and there are many rows
Numbers of a vector may be like that, too: ranks, or whole numbers of a few rows. So this holds only
where no more than half of the columns are, and there are always values that are not: `x + 0.5`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

_Columns: TypeAlias = NDArray[np.bool_]
"""Which columns of X (n, d): (d,)."""

# Of the orders of eight numbers, one in 40,320 ascends; in two splits of four, one in 576.
_FEWEST_ASCENDING = 8
_FEWEST_UNIQUE = 100
# So many equal pairs are to be expected by chance that there being none has a chance of 1 in 1,000
# (Poisson). Numbers from 0 to n-1 reach it with 15 rows.
_EXPECTED_PAIRS = 7
_GLANCE = 256  # rows

_NAME = re.compile(
    r"unnamed: *\d.*|level_\d+|(.*[^a-z0-9])?(index|idx|id|row|row_?(names?|id|index|no|number))",
    re.IGNORECASE,
)


def has_row_name(name: str) -> bool:
    """Whether a column is called as row numbers are: `Unnamed: 0`, `index`, `image_id`."""
    return _NAME.fullmatch(name) is not None


def are_whole(X: NDArray[Any]) -> _Columns:
    """Which columns of X (n, d) hold whole numbers only (d,)."""
    whole = (X[:1] % 1 == 0).all(axis=0)
    columns = np.flatnonzero(whole)  # few: next to no column of an embedding passes its first row
    whole[columns] = (X[:, columns] % 1 == 0).all(axis=0)
    return np.asarray(whole)


def find_row_numbers(
    X_train: NDArray[Any],
    y_train: NDArray[np.int64],
    X_test: NDArray[Any],
    y_test: NDArray[np.int64],
) -> int | None:
    """The first column of row numbers, by value, in finite X_* (n, d); `None` if there is none."""
    columns = np.flatnonzero(are_whole(X_train) & are_whole(X_test))
    classes = np.concatenate([y_train, y_test])
    is_test = np.arange(len(classes)) >= len(y_train)
    # A glance at rows of one class spares sorting the columns in which numbers come again.
    glance = np.flatnonzero(y_train == y_train[0])[:_GLANCE]
    columns = columns[_are_distinct(X_train[np.ix_(glance, columns)])]
    X = np.concatenate([X_train[:, columns], X_test[:, columns]])
    splits = [X[~is_test], X[is_test]]
    kinds = [_are_ascending(splits), _are_unique(splits)]
    for key in (np.zeros_like(classes), is_test, classes, 2 * classes + is_test):
        kinds.append(_are_counting([X[key == value] for value in np.unique(key)]))
    for found in kinds:
        if 0 < found.sum() <= X_train.shape[1] / 2:
            return int(columns[found][0])
    return None


def _are_ascending(groups: Sequence[NDArray[Any]]) -> _Columns:
    if sum(map(len, groups)) < _FEWEST_ASCENDING:
        return np.zeros(groups[0].shape[1], dtype=np.bool_)
    return _in_each(groups, lambda X: np.asarray((X[1:] > X[:-1]).all(axis=0)))


def _are_unique(groups: Sequence[NDArray[Any]]) -> _Columns:
    if sum(map(len, groups)) < _FEWEST_UNIQUE:
        return np.zeros(groups[0].shape[1], dtype=np.bool_)
    return _in_each(groups, _are_distinct)


def _are_counting(groups: Sequence[NDArray[Any]]) -> _Columns:
    pairs = np.zeros(groups[0].shape[1])
    for X in groups:
        low, high = (ends.astype(np.float64) for ends in (X.min(axis=0), X.max(axis=0)))
        # All pairs, times the chance that two random numbers of this range are equal.
        pairs += len(X) * (len(X) - 1) / 2 / (high - low + 1)
    return np.logical_and(_in_each(groups, _are_distinct), pairs >= _EXPECTED_PAIRS)


def _in_each(
    groups: Sequence[NDArray[Any]], columns_of: Callable[[NDArray[Any]], _Columns]
) -> _Columns:
    return np.asarray(np.stack([columns_of(X) for X in groups]).all(axis=0))


def _are_distinct(X: NDArray[Any]) -> _Columns:
    ordered = np.sort(X, axis=0)
    return np.asarray((ordered[1:] != ordered[:-1]).all(axis=0))
