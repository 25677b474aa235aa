"""What all readers of data share: a split as it was read, how a fault is named, what is too large.

A data file may come from anywhere. So nothing is taken from it before it is known that it is a
plain file and that what it declares fits into memory.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from numpy.typing import NDArray

from harness.errors import DataError

# Numbers as read, as float32, and a voter's columns as float64.
_COPIES = 4
# Embeddings as zip or Parquet packs them are a tenth as long at best. What is packed like this
# holds next to nothing; small files may, as labels do.
_MOST_PACKED = 100
_ALWAYS_READ_BYTES = 2**28  # 256 MiB


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the user wants to be read of a table; the flags have these names.

    `text_column` `None`: texts where the data show that they are texts. `test_share` `None`: the
    default, where the data have no split of their own.
    """

    text_column: str | None = None
    label_column: str | None = None
    test_share: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """One split as read.

    X (n, d) of numbers in the type in which it was read, or X (n,) of texts, as objects; and n
    labels. `origin(row, column)` says where one number or text came from, `column_name(column)`
    where all numbers of a column did. `images` is as in `Dataset`.
    """

    X: NDArray[Any]
    labels: Sequence[str]
    origin: Callable[[int, int], str]
    column_name: Callable[[int], str]
    images: Sequence[str] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Read:
    """Both splits as read, and what a reader of the answer has to know of the reading.

    `text_column` is the column of the texts, `None` for vectors. `test_share` is the share of the
    rows that became the test split, `None` where the data had a split. `unused_columns` and
    `unused_rows` (of a validation split beside a test split) were not read; `without_text` rows
    had no text.
    """

    train: Part
    test: Part
    text_column: str | None = None
    test_share: float | None = None
    unused_columns: tuple[str, ...] = ()
    unused_rows: int = 0
    without_text: int = 0


def fault(where: object, what: object, remedy: str) -> DataError:
    """The error that names a place and what is wrong there, in characters that can be printed."""
    return DataError(printable(f"{where}: {what}"), remedy=remedy)


def printable(text: str) -> str:
    """The text with an escape for what a terminal cannot show, or would obey.

    A path whose bytes are no text holds lone surrogates; a column's name may hold anything.
    """
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii")
        for letter in text
    )


def is_storable(text: str) -> bool:
    """Whether a text can be written as UTF-8; a name whose bytes are no text cannot."""
    return text == text.encode(errors="replace").decode()


def check_plain_file(path: Path) -> int:
    """The size of a file in bytes. Raises `DataError` for a pipe or a device: it may never end."""
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise fault(path, "not a plain file", "Give a file, not a folder, a pipe or a device.")
    return found.st_size


def check_room(where: object, needed: int, packed: int) -> None:
    """Raises `DataError` where `needed` bytes of data, `packed` bytes in the file, are too many."""
    if needed > max(_ALWAYS_READ_BYTES, _MOST_PACKED * packed):
        raise fault(
            where,
            f"{_mib(packed)} in the file become {_mib(needed)} of data, which no honest data do",
            "Write the file again from the data; do not open it if you do not know it.",
        )
    free = psutil.virtual_memory().available
    if needed * _COPIES > free:
        raise fault(
            where,
            f"{_mib(needed)} of data take {_mib(needed * _COPIES)} of memory, and {_mib(free)} are "
            "free",
            "Give fewer rows: a prompt holds some hundred, and some thousand are enough to test.",
        )


def _mib(size: int) -> str:
    return f"{size / 2**20:,.1f} MiB"
