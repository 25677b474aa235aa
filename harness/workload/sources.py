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
from harness.workload.dataset import Dataset, Texts, Vectors, make_dataset
from harness.workload.digits import load_digits_dataset
from harness.workload.folders import read_folder
from harness.workload.reading import Part, Read, Wanted, fault, is_storable, printable
from harness.workload.row_numbers import find_row_numbers
from harness.workload.tables import read_table

_CLASSES_REMEDY = "Give two classes or more, each of them in train and in test."
_NAMED = 5  # classes in a message
_LONGEST_TEXT = 2**20  # characters: far more than any context holds
_ALL = Wanted()
_FLAGS = ("text_column", "label_column", "test_share")
_ROW_NUMBERS_REMEDY = (
    "Leave them out: they are no part of an embedding. If they are, add 0.5 to each: only whole "
    "numbers are taken for row numbers."
)


def load_dataset(source: str, seed: int, wanted: Wanted = _ALL) -> Dataset:
    """The dataset `digits`, or the one in a folder, an .npz, .parquet, .csv or .jsonl file.

    `seed` decides the digits' fakes and split; that of a file does not depend on it.

    Raises `UsageError` where there is no such file, or no such columns as are wanted, `DataError`
    where it cannot be used.
    """
    if source == "digits":
        _refuse_columns(source, wanted)
        return load_digits_dataset(seed)
    path = Path(source)
    if not is_storable(source):
        raise fault(
            path,
            "this path is not UTF-8, and a run stores it",
            "Rename it, or start in the folder that is called so.",
        )
    try:
        read = _reader(path, wanted)(path)
    except OSError as error:
        place = error.filename or path
        raise fault(place, error.strerror or error, "Check its name and permissions.") from error
    return _dataset(path, read, wanted)


def _refuse_columns(source: object, wanted: Wanted) -> None:
    given = [name for name in _FLAGS if getattr(wanted, name) is not None]
    if given:
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise UsageError(
            f"{flags}: {source} is no table with columns, and has a split of its own",
            remedy="Leave this out, or give a .csv, .parquet or .jsonl file.",
        )


def _reader(path: Path, wanted: Wanted) -> Callable[[Path], Read]:
    if path.is_dir():
        _refuse_columns(path, wanted)
        return read_folder
    if not path.exists():
        raise UsageError(
            printable(f"{path}: no such file or folder"),
            remedy="Name a folder, an .npz, .parquet, .csv or .jsonl file, or `digits`.",
        )
    match path.suffix.lower():
        case ".npz":
            _refuse_columns(path, wanted)
            return read_npz
        case ".parquet" | ".csv" | ".jsonl":
            return lambda path: read_table(path, wanted)
    raise fault(
        path,
        "unknown kind of file",
        "Give a folder, or a file that ends in .npz, .parquet, .csv or .jsonl.",
    )


def _dataset(path: Path, read: Read, wanted: Wanted) -> Dataset:
    train, test = read.train, read.test
    for part, split in ((train, "train"), (test, "test")):
        if not part.X.size:
            what = "vectors" if read.text_column is None else "texts"
            raise fault(path, f"no {what} in the {split} split", _CLASSES_REMEDY)
    X_train, X_test = _texts(train, test) if read.text_column else _vectors(path, train, test)
    classes = _shared_classes(path, set(train.labels), set(test.labels))
    index = {name: number for number, name in enumerate(classes)}
    y_train, y_test = (
        np.array([index[label] for label in part.labels], dtype=np.int64) for part in (train, test)
    )
    if read.text_column is None:
        # as they were read: in float32 great numbers that follow each other are one
        column = find_row_numbers(train.X, y_train, test.X, y_test)
        if column is not None:
            where = train.column_name(column)
            raise fault(where, "these look like row numbers", _ROW_NUMBERS_REMEDY)
    # A file is called by its name, a folder by its parent's too: many are just "embeddings".
    whole = path.resolve()
    name = "/".join(whole.parts[-2:]) if whole.is_dir() else whole.name
    storable = name.encode("utf-8", errors="backslashreplace").decode("utf-8")
    return make_dataset(
        storable,
        classes,
        (X_train, y_train),
        (X_test, y_test),
        (train.images, test.images),
        text_column=read.text_column,
        is_column_given=wanted.text_column is not None,
        test_share=read.test_share,
        unused_columns=[printable(name) for name in read.unused_columns],
        unused_rows=read.unused_rows,
        without_text=read.without_text,
    )


def _texts(train: Part, test: Part) -> tuple[Texts, Texts]:
    for part in (train, test):
        for row, text in enumerate(part.X):
            if len(text) > _LONGEST_TEXT:
                what = f"{len(text):,} characters, and a text may have {_LONGEST_TEXT:,}"
                raise fault(part.origin(row, 0), what, "Shorten it or leave it out.")
    return train.X, test.X


def _vectors(path: Path, train: Part, test: Part) -> tuple[Vectors, Vectors]:
    X_train, X_test = _finite(train), _finite(test)
    if X_train.shape[1] != X_test.shape[1]:
        raise fault(
            path,
            f"{X_train.shape[1]} numbers a vector in train, {X_test.shape[1]} in test",
            "Embed both splits with the same model.",
        )
    return X_train, X_test


def _finite(part: Part) -> Vectors:
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
