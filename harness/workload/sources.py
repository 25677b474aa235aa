"""Where data comes from: the built-in digits, a folder of .npy files, an .npz file or a table.

Each reader gives two `Part`s, train and test, and `_dataset` holds both to the same rules. Every
refusal is a `DataError` that names the file, and the row, key or column in it; where there is no
such file, it is a `UsageError`.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np

from harness.errors import UsageError
from harness.workload.arrays import read_npz
from harness.workload.dataset import Dataset, Vectors, make_dataset
from harness.workload.digits import load_digits_dataset
from harness.workload.folders import read_folder
from harness.workload.reading import Part, fault, is_storable, printable
from harness.workload.row_numbers import find_row_numbers
from harness.workload.tables import read_table

_CLASSES_REMEDY = "Give two classes or more, each of them in train and in test."
_NAMED = 5  # classes in a message
_ROW_NUMBERS_REMEDY = (
    "Leave them out: they are no part of an embedding. If they are, add 0.5 to each: only whole "
    "numbers are taken for row numbers."
)


def load_dataset(source: str, seed: int) -> Dataset:
    """The dataset `digits`, or the one in a folder, an .npz, .parquet or .csv file.

    `seed` decides the digits' fakes and split; files have their own split.

    Raises `UsageError` where there is no such file, `DataError` where it cannot be used.
    """
    if source == "digits":
        return load_digits_dataset(seed)
    path = Path(source)
    if not is_storable(source):
        raise fault(
            path,
            "this path is not UTF-8, and a run stores it",
            "Rename it, or start in the folder that is called so.",
        )
    try:
        train, test = _reader(path)(path)
    except OSError as error:
        place = error.filename or path
        raise fault(place, error.strerror or error, "Check its name and permissions.") from error
    return _dataset(path, train, test)


def _reader(path: Path) -> Callable[[Path], tuple[Part, Part]]:
    if path.is_dir():
        return read_folder
    if not path.exists():
        raise UsageError(
            printable(f"{path}: no such file or folder"),
            remedy="Name a folder, an .npz, .parquet or .csv file, or `digits`.",
        )
    readers = {".npz": read_npz, ".parquet": read_table, ".csv": read_table}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise fault(
            path,
            "unknown kind of file",
            "Give a folder, or a file that ends in .npz, .parquet or .csv.",
        )
    return reader


def _dataset(path: Path, train: Part, test: Part) -> Dataset:
    X_train, X_test = (
        _finite(path, part, split) for part, split in ((train, "train"), (test, "test"))
    )
    if X_train.shape[1] != X_test.shape[1]:
        raise fault(
            path,
            f"{X_train.shape[1]} numbers a vector in train, {X_test.shape[1]} in test",
            "Embed both splits with the same model.",
        )
    classes = _shared_classes(path, set(train.labels), set(test.labels))
    index = {name: number for number, name in enumerate(classes)}
    y_train, y_test = (
        np.array([index[label] for label in part.labels], dtype=np.int64) for part in (train, test)
    )
    # as they were read: in float32 great numbers that follow each other are one
    column = find_row_numbers(train.X, y_train, test.X, y_test)
    if column is not None:
        raise fault(train.column_name(column), "these look like row numbers", _ROW_NUMBERS_REMEDY)
    # A file is called by its name, a folder by its parent's too: many are just "embeddings".
    whole = path.resolve()
    name = "/".join(whole.parts[-2:]) if whole.is_dir() else whole.name
    storable = name.encode("utf-8", errors="backslashreplace").decode("utf-8")
    return make_dataset(storable, classes, (X_train, y_train), (X_test, y_test))


def _finite(path: Path, part: Part, split: str) -> Vectors:
    if not part.X.size:
        raise fault(path, f"no vectors in the {split} split", _CLASSES_REMEDY)
    with np.errstate(over="ignore"):  # becomes infinite, and is found below
        X = part.X.astype(np.float32)
    wrong = np.argwhere(~np.isfinite(X))
    if wrong.size:
        row, column = map(int, wrong[0])
        raise fault(
            part.origin(row, column),
            "missing, NaN, infinite, or too large for float32",
            "Leave this vector out or embed it again.",
        )
    return X


def _refuse_other_form(path: Path, lonely: set[str], every: set[str]) -> None:
    """Names that look the same may be written with other characters, as macOS writes accents."""
    forms = Counter(unicodedata.normalize("NFC", name) for name in every)
    for name in sorted(lonely):
        if forms[unicodedata.normalize("NFC", name)] > 1:
            raise fault(
                path,
                f"the class {name} is written in two Unicode forms (NFC and NFD) in train and test",
                "Write it in one form in both: unicodedata.normalize('NFC', name).",
            )


def _shared_classes(path: Path, train: set[str], test: set[str]) -> tuple[str, ...]:
    for split, lonely in (("train", train - test), ("test", test - train)):
        if lonely:
            _refuse_other_form(path, lonely, train | test)
            names = ", ".join(sorted(lonely)[:_NAMED])
            more = f" and {len(lonely) - _NAMED} more" if len(lonely) > _NAMED else ""
            raise fault(path, f"class only in {split}: {names}{more}", _CLASSES_REMEDY)
    if len(train) < 2:
        raise fault(path, f"only one class, {train.pop()}", _CLASSES_REMEDY)
    if not all(name.strip() for name in train):
        raise fault(path, "a label is blank", "Give every row a label.")
    for name in train:
        if not is_storable(name):
            raise fault(path, f"the label {name} is not UTF-8", "Write the labels as UTF-8.")
    return tuple(sorted(train))
