"""Arrays of numpy: one in a stream, and the four of an .npz archive.

What the header of an array declares is checked before memory is taken for its content. Pickles are
never loaded: a data file from somewhere else must not be able to run code.
"""

from __future__ import annotations

import math
import sys
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from harness.errors import DataError
from harness.workload.reading import Part, Read, check_plain_file, check_room, fault

_NPZ_REMEDY = (
    "Write it with numpy.savez: X_train and X_test (rows of numbers), y_train and y_test "
    "(text, whole numbers or booleans, not objects); no pickles are loaded."
)
_LONGEST_NAME = 4 * 4096  # bytes: a path has no more
_KEYS = ("X_train", "y_train", "X_test", "y_test")


@dataclass(frozen=True, slots=True)
class Header:
    """What an array in a file says of itself."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    is_fortran: bool

    def __str__(self) -> str:
        return f"of shape {self.shape} and {self.dtype}"

    @property
    def length(self) -> int:
        """Of the content, in bytes."""
        return math.prod(self.shape) * self.dtype.itemsize


def read_array(
    stream: IO[bytes], size: int, where: object, remedy: str, wrong: Callable[[Header], str | None]
) -> NDArray[Any]:
    """The array in a stream of `size` bytes. Raises `DataError` with `where` and `remedy`.

    `wrong` says what is wrong with an array, if anything is, by its header.
    """
    try:
        header = _read_header(stream)
        if what := wrong(header):
            raise fault(where, what, remedy)
        left = size - stream.tell()
        if header.length > left:
            raise fault(
                where,
                f"{header}: that takes {header.length:,} bytes, and {left:,} are there",
                remedy,
            )
        return _read_content(stream, header)
    except DataError:
        raise
    except Exception as error:  # damaged bytes bring out anything: TokenError, LZMAError, KeyError
        raise fault(where, f"no array, or a damaged one: {error}", remedy) from error


def _read_header(stream: IO[bytes]) -> Header:
    version = npy.read_magic(stream)
    # Version 3 is 2 with other names of fields, and an array with fields is not wanted.
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, is_fortran, dtype = read(stream)
    if any(length < 0 for length in shape):
        raise ValueError(f"its shape is {shape}")
    return Header(shape, dtype, is_fortran)


def _read_content(stream: IO[bytes], header: Header) -> NDArray[Any]:
    content = stream.read(header.length)
    stream.read(1)  # an archive compares the checksum at the end
    if len(content) != header.length:
        raise EOFError(f"{len(content):,} bytes of {header.length:,} are there")
    if not content:
        return np.empty(header.shape, header.dtype)
    array = np.frombuffer(content, header.dtype)
    return array.reshape(header.shape, order="F" if header.is_fortran else "C")


def read_npz(path: Path) -> Read:
    size = check_plain_file(path)
    try:
        with zipfile.ZipFile(path) as archive:
            members = _find_members(path, archive)
            check_room(path, sum(member.file_size for member in members.values()), size)
            train = _read_split(path, archive, members, "train")
            return Read(train, _read_split(path, archive, members, "test"))
    except (zipfile.BadZipFile, RuntimeError, ValueError) as error:
        raise fault(path, f"not an .npz archive, or cut off: {error}", _NPZ_REMEDY) from error


def _find_members(path: Path, archive: zipfile.ZipFile) -> Mapping[str, zipfile.ZipInfo]:
    """The entries of the four arrays by name; numpy.savez puts .npy behind it."""
    found = {member.filename.removesuffix(".npy"): member for member in archive.infolist()}
    for key in _KEYS:
        if key not in found:
            raise fault(path, f"no {key} in it", _NPZ_REMEDY)
    return {key: found[key] for key in _KEYS}


def _read_split(
    path: Path, archive: zipfile.ZipFile, members: Mapping[str, zipfile.ZipInfo], split: str
) -> Part:
    def read(key: str, wrong: Callable[[Header], str | None]) -> NDArray[Any]:
        where = f"{path}: {key}"
        try:
            with archive.open(members[key]) as stream:
                return read_array(stream, members[key].file_size, where, _NPZ_REMEDY, wrong)
        # A password is wanted, the compression is unknown, or the place is not in the file.
        except (RuntimeError, OSError) as error:
            raise fault(where, error, _NPZ_REMEDY) from error

    def not_rows(header: Header) -> str | None:
        # Floating, signed, unsigned. A dtype of Python objects would be a pickle.
        is_right = len(header.shape) == 2 and header.dtype.kind in "fiu"
        return None if is_right else f"it is {header}, not rows of numbers"

    def not_labels(header: Header) -> str | None:
        is_right = header.shape == (len(X),) and header.dtype.kind in "biuU"
        return None if is_right else f"it is {header}, not {len(X)} labels"

    X = read(f"X_{split}", not_rows)
    y = read(f"y_{split}", not_labels)
    # numpy stores 4 bytes for each character. Beyond Unicode, Python raises `SystemError`.
    if y.dtype.kind == "U" and y.view(f"{y.dtype.byteorder}u4").max(initial=0) > sys.maxunicode:
        raise fault(f"{path}: y_{split}", "a label holds what is no character", _NPZ_REMEDY)
    return Part(
        X,
        [str(label) for label in y.tolist()],
        lambda row, column: f"{path}: X_{split}[{row}, {column}]",
        lambda column: f"{path}: X_{split}[:, {column}]",
        _read_images(archive, f"images_{split}.npy", len(X)),
    )


def _read_images(archive: zipfile.ZipFile, member: str, rows: int) -> Sequence[str]:
    """What `harness embed` writes beside the vectors; nothing where it is anything else."""

    def not_names(header: Header) -> str | None:
        is_right = header.shape == (rows,) and header.dtype.kind == "U"
        return None if is_right and header.dtype.itemsize <= _LONGEST_NAME else "no names"

    try:
        size = archive.getinfo(member).file_size
        with archive.open(member) as stream:
            names = read_array(stream, size, member, "", not_names)
        if names.view(f"{names.dtype.byteorder}u4").max(initial=0) > sys.maxunicode:
            return ()
        return [str(name) for name in names.tolist()]
    except (KeyError, DataError, RuntimeError, OSError):  # there is none, or it is another thing
        return ()
