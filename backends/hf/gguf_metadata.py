"""The single values in the head of a GGUF file. Standard library only.

The format is described in `docs/gguf.md` of ggml-org/ggml. The `gguf` package reads arrays too,
which takes it ten seconds for a vocabulary of 262,144 tokens.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from backends.api import BackendError

_MAGIC = b"GGUF"
_NUMBERS = {
    0: "B",
    1: "b",
    2: "H",
    3: "h",
    4: "I",
    5: "i",
    6: "f",
    7: "?",
    10: "Q",
    11: "q",
    12: "d",
}
_STRING, _ARRAY = 8, 9
# what lengths and kinds that cannot be lead to
_MALFORMED = (
    struct.error,
    KeyError,
    MemoryError,
    OSError,
    OverflowError,
    RecursionError,
    ValueError,
)


def read_metadata(path: Path) -> Mapping[str, Any]:
    """The numbers, flags and strings by their keys. Raises `BackendError` for any other file."""
    with path.open("rb") as file:
        try:
            magic, _version, _tensors, fields = _read(file, "4sIQQ")
            if magic == _MAGIC:
                return dict(_field(file) for _ in range(fields))
        except _MALFORMED:
            pass
    raise BackendError(f"{path} is not a whole GGUF file", "Check where the file came from.")


def _field(file: IO[bytes]) -> tuple[str, Any]:
    key = _text(file)
    [kind] = _read(file, "I")
    return key, _value(file, kind)


def _value(file: IO[bytes], kind: int) -> Any:
    """Null for an array, which is passed over."""
    if kind == _STRING:
        return _text(file)
    if kind != _ARRAY:
        return _read(file, _NUMBERS[kind])[0]
    item, count = _read(file, "IQ")
    if item in _NUMBERS:
        file.seek(count * struct.calcsize(f"<{_NUMBERS[item]}"), 1)
    else:
        for _ in range(count):
            _value(file, item)
    return None


def _text(file: IO[bytes]) -> str:
    [size] = _read(file, "Q")
    return file.read(size).decode()


def _read(file: IO[bytes], layout: str) -> tuple[Any, ...]:
    """Little-endian values without gaps."""
    layout = f"<{layout}"
    return struct.unpack(layout, file.read(struct.calcsize(layout)))
