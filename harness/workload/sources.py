"""Where data comes from: the built-in digits, a folder of .npy files, an .npz file or a table.

Each reader gives two `_Part`s, train and test, and `_dataset` holds both to the same rules. Every
refusal is a `DataError` that names the file, and the row, key or column in it. Pickles are never
loaded: a data file from somewhere else must not be able to run code.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from harness.errors import DataError
from harness.workload.dataset import Dataset, Vectors, make_dataset
from harness.workload.digits import load_digits_dataset

if TYPE_CHECKING:
    import pyarrow

_FOLDER_REMEDY = "Lay it out as embeddings_train/CLASS/*.npy and embeddings_test/CLASS/*.npy."
_VECTOR_REMEDY = "Write each vector with numpy.save, 1-D, all of one length; no pickles are loaded."
_NPZ_REMEDY = (
    "Write it with numpy.savez: X_train and X_test (rows of numbers), y_train and y_test "
    "(text, whole numbers or booleans, not objects); no pickles are loaded."
)
_TABLE_REMEDY = "Give a table of a `label` column, a `split` column (train or test) and numbers."
_NPZ_KEYS = ("X_train", "y_train", "X_test", "y_test")
_CLASSES_REMEDY = "Give two classes or more, each of them in train and in test."


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """One split as read: X (n, d), n labels, and where number (row, column) came from."""

    X: Vectors
    labels: Sequence[str]
    origin: Callable[[int, int], str]


def load_dataset(source: str, seed: int) -> Dataset:
    """The dataset `digits`, or the one in a folder, an .npz, .parquet or .csv file.

    `seed` decides the digits' fakes and split; files have their own split. Raises `DataError`.
    """
    if source == "digits":
        return load_digits_dataset(seed)
    path = Path(source)
    try:
        train, test = _reader(path)(path)
    except OSError as error:
        raise DataError(f"{path}: {error}", remedy="Check its name and permissions.") from error
    return _dataset(path, train, test)


def _reader(path: Path) -> Callable[[Path], tuple[_Part, _Part]]:
    if path.is_dir():
        return _read_folder
    if not path.exists():
        raise DataError(
            f"{path}: no such file or folder",
            remedy="Name a folder, an .npz, .parquet or .csv file, or `digits`.",
        )
    readers = {".npz": _read_npz, ".parquet": _read_table, ".csv": _read_table}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise DataError(
            f"{path}: unknown kind of file",
            remedy="Give a folder, or a file that ends in .npz, .parquet or .csv.",
        )
    return reader


def _dataset(path: Path, train: _Part, test: _Part) -> Dataset:
    for part, split in ((train, "train"), (test, "test")):
        if not part.X.size:
            raise DataError(f"{path}: no vectors in the {split} split", remedy=_CLASSES_REMEDY)
        wrong = np.argwhere(~np.isfinite(part.X))
        if wrong.size:
            row, column = map(int, wrong[0])
            raise DataError(
                f"{part.origin(row, column)}: missing, NaN, infinite, or too large for float32",
                remedy="Leave this vector out or embed it again.",
            )
    if train.X.shape[1] != test.X.shape[1]:
        raise DataError(
            f"{path}: {train.X.shape[1]} numbers a vector in train, {test.X.shape[1]} in test",
            remedy="Embed both splits with the same model.",
        )
    classes = _shared_classes(path, set(train.labels), set(test.labels))
    index = {name: number for number, name in enumerate(classes)}
    y_train, y_test = (
        np.array([index[label] for label in part.labels], dtype=np.int64) for part in (train, test)
    )
    # A file is called by its name, a folder by its parent's too: many are just "embeddings".
    whole = path.resolve()
    name = "/".join(whole.parts[-2:]) if whole.is_dir() else whole.name
    return make_dataset(name, classes, (train.X, y_train), (test.X, y_test))


def _shared_classes(path: Path, train: set[str], test: set[str]) -> tuple[str, ...]:
    for split, lonely in (("train", train - test), ("test", test - train)):
        if lonely:
            names = ", ".join(sorted(lonely))
            raise DataError(f"{path}: class only in {split}: {names}", remedy=_CLASSES_REMEDY)
    if len(train) < 2:
        raise DataError(f"{path}: only one class, {train.pop()}", remedy=_CLASSES_REMEDY)
    if not all(name.strip() for name in train):
        raise DataError(f"{path}: a label is blank", remedy="Give every row a label.")
    for name in train:
        if name != name.encode(errors="replace").decode():
            raise DataError(
                f"{path}: the label {name!r} holds half a character",
                remedy="Write the labels as UTF-8.",
            )
    return tuple(sorted(train))


def _as_float32(numbers: NDArray[Any]) -> Vectors:
    with np.errstate(over="ignore"):  # becomes infinite, which _dataset reports with its place
        return numbers.astype(np.float32)


# A folder of .npy files


def _read_folder(folder: Path) -> tuple[_Part, _Part]:
    train = _list_split(folder / "embeddings_train")
    test = _list_split(folder / "embeddings_test")
    X = _stack([_read_vector(file) for file in train + test], train + test)

    def part(vectors: Vectors, files: Sequence[Path]) -> _Part:
        labels = [file.parent.name for file in files]
        return _Part(vectors, labels, lambda row, column: f"{files[row]}: number {column}")

    return part(X[: len(train)], train), part(X[len(train) :], test)


def _list_split(folder: Path) -> list[Path]:
    """The .npy files of all classes, class by class, in sorted order."""
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder", remedy=_FOLDER_REMEDY)
    files: list[Path] = []
    for class_folder in _visible(folder):
        if class_folder.is_dir():
            vectors = [file for file in _visible(class_folder) if file.suffix == ".npy"]
            if not vectors:
                raise DataError(
                    f"{class_folder}: a class without .npy files", remedy=_FOLDER_REMEDY
                )
            files += vectors
    return files


def _visible(folder: Path) -> list[Path]:
    """Sorted entries, without hidden ones: macOS leaves `._NAME.npy` files that are no arrays."""
    return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))


def _read_vector(file: Path) -> NDArray[Any]:
    try:
        with file.open("rb") as stream:
            vector: NDArray[Any] = np.lib.format.read_array(stream, allow_pickle=False)
    except (OSError, ValueError, EOFError, MemoryError) as error:
        raise DataError(f"{file}: {error}", remedy=_VECTOR_REMEDY) from error
    if vector.ndim != 1 or vector.dtype.kind not in "fiu":
        raise DataError(
            f"{file}: shape {vector.shape} of {vector.dtype}, not a 1-D vector of numbers",
            remedy=_VECTOR_REMEDY,
        )
    return vector


def _stack(vectors: Sequence[NDArray[Any]], files: Sequence[Path]) -> Vectors:
    if not vectors:
        return np.empty((0, 0), dtype=np.float32)
    for vector, file in zip(vectors, files, strict=True):
        if vector.size != vectors[0].size:
            raise DataError(
                f"{file}: {vector.size} numbers, but {files[0]} has {vectors[0].size}",
                remedy=_VECTOR_REMEDY,
            )
    return _as_float32(np.stack(vectors))


# One .npz file


def _read_npz(path: Path) -> tuple[_Part, _Part]:
    if not zipfile.is_zipfile(path):
        raise DataError(f"{path}: not an .npz archive, or cut off", remedy=_NPZ_REMEDY)
    arrays: dict[str, NDArray[Any]] = {}
    with np.load(path, allow_pickle=False) as archive:
        for key in _NPZ_KEYS:
            try:
                arrays[key] = archive[key]
            except KeyError:
                raise DataError(f"{path}: no {key} in it", remedy=_NPZ_REMEDY) from None
            except (ValueError, EOFError, MemoryError, zipfile.BadZipFile, zlib.error) as error:
                raise DataError(f"{path}: {key}: {error}", remedy=_NPZ_REMEDY) from error
    return _npz_part(path, arrays, "train"), _npz_part(path, arrays, "test")


def _npz_part(path: Path, arrays: Mapping[str, NDArray[Any]], split: str) -> _Part:
    X, y = arrays[f"X_{split}"], arrays[f"y_{split}"]
    if X.ndim != 2 or X.dtype.kind not in "fiu":
        raise DataError(
            f"{path}: X_{split} is of shape {X.shape} and {X.dtype}, not rows of numbers",
            remedy=_NPZ_REMEDY,
        )
    if y.shape != (len(X),) or y.dtype.kind not in "biuU":
        raise DataError(
            f"{path}: y_{split} is of shape {y.shape} and {y.dtype}, not {len(X)} labels",
            remedy=_NPZ_REMEDY,
        )
    return _Part(
        _as_float32(X),
        [str(label) for label in y.tolist()],
        lambda row, column: f"{path}: X_{split}[{row}, {column}]",
    )


# One table


def _read_table(path: Path) -> tuple[_Part, _Part]:
    table = _arrow_table(path)
    labels, splits = _text_column(path, table, "label"), _text_column(path, table, "split")
    names = [name for name in table.column_names if name not in ("label", "split")]
    X = _table_numbers(path, table, names)
    for row, split in enumerate(splits):
        if split not in ("train", "test"):
            raise DataError(f"{path}: data row {row + 1}: split is {split!r}", remedy=_TABLE_REMEDY)

    def part(split: str) -> _Part:
        rows = [row for row, name in enumerate(splits) if name == split]
        return _Part(
            X[rows],
            [labels[row] for row in rows],
            lambda row, column: f"{path}: data row {rows[row] + 1}, column {names[column]}",
        )

    return part("train"), part("test")


def _arrow_table(path: Path) -> pyarrow.Table:
    from pyarrow import ArrowException, csv, parquet, string

    try:
        if path.suffix.lower() == ".csv":  # typed, so that a class `001` does not become `1`
            text = csv.ConvertOptions(column_types={"label": string(), "split": string()})
            return csv.read_csv(path, convert_options=text)
        with parquet.ParquetFile(path) as file:
            return file.read()
    except (OSError, ValueError, ArrowException) as error:
        raise DataError(f"{path}: {error}", remedy=_TABLE_REMEDY) from error


def _text_column(path: Path, table: pyarrow.Table, name: str) -> list[str]:
    from pyarrow import string, types

    count = table.column_names.count(name)
    if count != 1:
        raise DataError(f"{path}: {count or 'no'} column named {name}", remedy=_TABLE_REMEDY)
    column = table.column(name)
    if types.is_floating(column.type) or types.is_nested(column.type):
        raise DataError(
            f"{path}: column {name} is {column.type}, not text or whole numbers",
            remedy=_TABLE_REMEDY,
        )
    texts: list[str | None] = column.cast(string()).to_pylist()
    if None in texts:
        raise DataError(
            f"{path}: data row {texts.index(None) + 1}: no {name}", remedy=_TABLE_REMEDY
        )
    return [text for text in texts if text is not None]


def _table_numbers(path: Path, table: pyarrow.Table, names: Sequence[str]) -> Vectors:
    """All columns of `names` as (rows, columns); what is missing becomes NaN."""
    from pyarrow import types

    for name in names:
        if not name.strip() or name.startswith("__index_level_"):
            raise DataError(
                f"{path}: column {name!r} looks like a row index",
                remedy="Write the table without its index: it is no part of an embedding.",
            )
        if table.column_names.count(name) != 1:
            raise DataError(f"{path}: column {name} occurs twice", remedy="Name each column once.")
        kind = table.column(name).type
        if not (types.is_integer(kind) or types.is_floating(kind)):
            raise DataError(f"{path}: column {name} is {kind}, not numbers", remedy=_TABLE_REMEDY)
    if not names:
        return np.empty((len(table), 0), dtype=np.float32)
    return _as_float32(np.stack([table.column(name).to_numpy() for name in names], axis=1))
