"""A folder of embeddings: embeddings_train/CLASS/*.npy and embeddings_test/CLASS/*.npy.

No vector is passed over without a word. What lies below a split's folder and is read as a vector by
its name or its beginning, but lies where none is read, is refused with the count.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from harness.workload.arrays import Header, read_array
from harness.workload.reading import Part, Read, check_plain_file, check_room, fault

_LAYOUT_REMEDY = "Lay it out as embeddings_train/CLASS/*.npy and embeddings_test/CLASS/*.npy."
_VECTOR_REMEDY = "Write each vector with numpy.save, 1-D, all of one length; no pickles are loaded."
_MOVE_REMEDY = f"{_LAYOUT_REMEDY} Move or convert these files, or take them out of the folder."
# Files in which arrays are stored. Images and notes may lie beside the vectors.
_ARRAYS = {".npy", ".npz", ".pt", ".pth", ".pkl", ".pickle", ".joblib"}
_ARRAYS |= {".safetensors", ".h5", ".hdf5", ".mat", ".parquet", ".feather"}


def read_folder(folder: Path) -> Read:
    train, test = _list_split(folder, "train"), _list_split(folder, "test")
    sizes = [check_plain_file(file) for file in train + test]
    check_room(folder, sum(sizes), sum(sizes))  # nothing here is compressed
    vectors = [_read_vector(file, size) for file, size in zip(train + test, sizes, strict=True)]
    X = _stack(vectors, train + test)

    def part(rows: NDArray[Any], files: Sequence[Path], split: str) -> Part:
        return Part(
            rows,
            [file.parent.name for file in files],
            lambda row, column: f"{files[row]}: number {column}",
            lambda column: f"{folder}: number {column} of each vector",
            [f"{split}/{file.parent.name}/{file.stem}" for file in files],
        )

    return Read(part(X[: len(train)], train, "train"), part(X[len(train) :], test, "test"))


def _list_split(parent: Path, split: str) -> list[Path]:
    """The .npy files of all classes, class by class, in sorted order."""
    name = f"embeddings_{split}"
    folder = parent / name
    if not folder.is_dir():
        raise fault(folder, "no such folder", _LAYOUT_REMEDY)
    files: list[Path] = []
    for class_folder in _visible(folder):
        if class_folder.is_dir():
            vectors = [file for file in _visible(class_folder) if file.suffix.lower() == ".npy"]
            if not vectors:
                raise fault(class_folder, "a class without .npy files", _LAYOUT_REMEDY)
            files += vectors
    # Half of a split may lie beside it: `embeddings_train2`, `embeddings_train (1)`.
    likely = [other for other in _visible(parent) if other.name.lower().startswith(name)]
    _check_none_left(folder, [file for other in likely for file in _files_below(other)], files)
    return files


def _visible(folder: Path) -> list[Path]:
    """Sorted entries, without hidden ones: macOS leaves `._NAME.npy` files that are no arrays."""
    return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))


def _check_none_left(folder: Path, there: Iterable[Path], read: Sequence[Path]) -> None:
    known = set(read)
    left = [file for file in there if file not in known and _holds_arrays(file)]
    if left:
        raise fault(
            folder,
            f"{len(left)} of {len(known) + len(left)} files of vectors would not be read; "
            f"{min(left)} is one of them",
            _MOVE_REMEDY,
        )


def _files_below(folder: Path) -> Iterator[Path]:
    """All files in a folder and in folders below it, each folder once, whatever links there are."""
    seen = set[str]()
    for parent, folders, names in os.walk(folder, onerror=_raise, followlinks=True):
        inner = {name: os.path.realpath(Path(parent, name)) for name in folders}
        folders[:] = [name for name, place in inner.items() if place not in seen]
        seen.update(inner.values())
        yield from (Path(parent, name) for name in names)


def _raise(error: OSError) -> None:
    # By default, `os.walk` passes over folders that it may not read.
    raise error


def _holds_arrays(file: Path) -> bool:
    """By its name, or by its beginning: a vector may be called `.0.npy`, `0.npy.bak` or `0`."""
    suffixes = {suffix.lower() for suffix in file.suffixes}
    if not file.name.startswith(".") and suffixes & _ARRAYS:
        return True
    if not file.is_file():
        return False
    with file.open("rb") as stream:
        return stream.read(len(npy.MAGIC_PREFIX)) == npy.MAGIC_PREFIX


def _read_vector(file: Path, size: int) -> NDArray[Any]:
    def not_a_vector(header: Header) -> str | None:
        is_right = len(header.shape) == 1 and header.dtype.kind in "fiu"
        return None if is_right else f"it is {header}, not a 1-D vector of numbers"

    with file.open("rb") as stream:
        return read_array(stream, size, file, _VECTOR_REMEDY, not_a_vector)


def _stack(vectors: Sequence[NDArray[Any]], files: Sequence[Path]) -> NDArray[Any]:
    if not vectors:
        return np.empty((0, 0))
    for vector, file in zip(vectors, files, strict=True):
        if vector.size != vectors[0].size:
            raise fault(
                file,
                f"{vector.size} numbers, but {files[0]} has {vectors[0].size}",
                _VECTOR_REMEDY,
            )
    return np.stack(vectors)
