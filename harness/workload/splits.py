"""Which rows of a table are for training, and which are for testing.

A table has a column `split`, or none. Then the split is made of the data alone: within each class,
the rows with the smallest hashes of their content are the test split. So it is the same for every
seed and in every order of the rows, and a row that is added moves hardly any other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.workload.reading import fault

TEST_SHARE = 0.3
"""Of the rows of each class, where the data have no split: as in the built-in digits."""

_NAMES = {
    "train": ("train", "training"),
    "test": ("test", "testing"),
    "validation": ("validation", "valid", "val", "dev"),
}
"""The splits by the names that are common for them."""

_REMEDY = (
    "Name the splits train and test, or leave the column out: then the test split is made of the "
    "data (--test-share)."
)


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of both splits, ascending. `unused`: how many validation rows there are beside."""

    train: Sequence[int]
    test: Sequence[int]
    unused: int = 0


def by_name(names: Sequence[str], place: Callable[[int], str]) -> Rows:
    """The splits as a column names them, in any case. Validation rows are the test split where
    there are no test rows; else they are not used. `place` says where a row stands, for errors."""
    kinds = [_kind(name) for name in names]
    if None in kinds:
        row = kinds.index(None)
        raise fault(place(row), f"split is {names[row]!r}, not train or test", _REMEDY)
    test = "test" if "test" in kinds else "validation"
    rows = {split: [row for row, kind in enumerate(kinds) if kind == split] for split in _NAMES}
    return Rows(rows["train"], rows[test], len(rows["validation"]) if test == "test" else 0)


def _kind(name: str) -> str | None:
    folded = name.strip().casefold()
    return next((split for split, names in _NAMES.items() if folded in names), None)


def by_content(path: Path, X: NDArray[Any], labels: Sequence[str], share: float) -> Rows:
    """A stratified split. Equal contents of one class are in one split, as far as that is possible.

    Raises `DataError` where a class has a single row.
    """
    digests = [hashlib.sha256(content).digest() for content in _contents(X)]
    classes: dict[str, list[int]] = {}
    for row, label in enumerate(labels):
        classes.setdefault(label, []).append(row)
    test: list[int] = []
    for label, rows in classes.items():
        if len(rows) == 1:
            raise fault(
                path,
                f"the class {label} has one row, and a split needs two of each class",
                "Give more rows of it or leave it out, or name the splits in a column `split`.",
            )
        rows.sort(key=digests.__getitem__)
        count = min(max(1, round(share * len(rows))), len(rows) - 1)
        while count > 1 and digests[rows[count - 1]] == digests[rows[count]]:
            count -= 1
        test += rows[:count]
    in_test = set(test)
    return Rows([row for row in range(len(labels)) if row not in in_test], sorted(test))


def _contents(X: NDArray[Any]) -> Sequence[bytes]:
    """Each row as the hash of the data has it, whatever file it came from."""
    if X.ndim == 1:
        return [text.encode("utf-8", errors="surrogatepass") for text in X]
    with np.errstate(over="ignore"):  # what becomes infinite is refused later
        rows = np.ascontiguousarray(X, dtype="<f4")
    return [row.tobytes() for row in rows]
