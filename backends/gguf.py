"""GGUF files: whether a file is one, which belong together, the single values in their heads.

Standard library only: the harness and every engine read them by this. The format is described in
`docs/gguf.md` of ggml-org/ggml. The `gguf` package reads arrays too, which takes it ten seconds for
a vocabulary of 262,144 tokens.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from backends.api import BackendError

_MAGIC = b"GGUF"
# The types of numbers by their code in the file, as `struct` writes them.
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
_FIRST_FIELDS, _SHORT_BYTES = 256, 2**16  # bounds of what `read_beginning` reads
MOST_LAYERS = 4096
_MOST_TEXT, _MOST_DIMENSIONS = 2**24, 8  # more cannot be, and would be read into memory
MOST_IN_BYTE = 16  # numbers: no format packs more
_PART = re.compile(r"(?P<stem>.*)-\d{5}-of-(?P<count>\d{5})\.gguf")
_LFS = "a Git LFS pointer, which stands for a file that was not fetched"
_OTHERS = (
    (rb"$", "empty or cannot be read"),
    (rb"version https://git-lfs", _LFS),
    (rb"(?i)\s*<(!doctype|html|\?xml|head|body)", "a web page"),
    (rb"\s*[{\[]", "JSON"),
    (rb"(?s).{8}\{", "a safetensors file"),  # a length in 8 bytes, then JSON
    (rb"(tjgg|fmgg|lmgg|algg|ggjt|ggml)", "of the older format GGML"),
    (rb"FUGG", "of the other byte order"),
    (rb"PK\x03\x04|\x1f\x8b|BZh|\xfd7zXZ|\x28\xb5\x2f\xfd|7z\xbc\xaf", "an archive"),
    (rb"\x80[\x02-\x05]", "a pickle"),
    (rb"\x00+$", "filled with zeros"),
)
_ENCODERS = {
    "bert",
    "clip",  # what sees images for a language model
    "eurobert",
    "gemma-embedding",
    "modern-bert",
    "neo-bert",
    "t5",
    "t5encoder",
    "wavtokenizer-dec",
}
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


def parts_of(path: Path) -> list[Path]:
    """The files of a model that is in several, by their names; the one file of any other model.

    Raises `BackendError` for a part that is not the first, and where a part is not there.
    """
    name = _PART.fullmatch(path.name)
    if not name:
        return [path]
    count = int(name["count"])
    names = [f"{name['stem']}-{i:05}-of-{count:05}.gguf" for i in range(1, count + 1)]
    # Not `names[0]`: of `-00001-of-00000` there are none.
    if path.name not in names[:1]:
        raise BackendError(
            f"{path.name} is one of {count} files that make up a model, and not the first",
            f"Give the first: {name['stem']}-00001-of-{count:05}.gguf",
        )
    if missing := [one for one in names if not path.with_name(one).is_file()]:
        raise BackendError(
            f"{path.name} is one of {count} files that make up a model, and {missing[0]} is not "
            "beside it",
            "Put all files of the model into one folder.",
        )
    return [path.with_name(one) for one in names]


def check_file(path: Path, name: str) -> None:
    """Raises `BackendError`, which calls the file `name`, where it is certainly no GGUF file."""
    begins = _beginning(path)
    if begins.startswith(_MAGIC):
        return  # whatever the file is called: Ollama and the hub's cache name files by their hash
    kind = next((kind for sign, kind in _OTHERS if re.match(sign, begins)), None)
    what = f"it is {kind}" if kind else f"it does not begin with {_MAGIC.decode()}"
    raise BackendError(
        f"{name} is no GGUF file: {what}",
        "Fetch the file itself: git lfs pull" if kind == _LFS else "Check where it came from.",
    )


def check_model(metadata: Mapping[str, Any], name: str) -> None:
    """Raises `BackendError` for a model that writes no text: one that embeds texts, or ranks them.

    Where its head does not say so, the engine has to find out.
    """
    architecture = str(metadata.get("general.architecture"))
    kind = None
    if architecture in _ENCODERS or architecture.startswith(("bert-", "jina-bert", "nomic-bert")):
        kind = f"its architecture is {architecture}"
    elif metadata.get(f"{architecture}.attention.causal") is False:
        kind = "its tokens see those behind them"
    elif metadata.get(f"{architecture}.pooling_type"):
        kind = "it pools its tokens into one embedding or rank"
    if kind:
        raise BackendError(
            f"{name} is not a model that writes text: {kind}", "Give a language model."
        )


def read_metadata(path: Path, name: str = "") -> Mapping[str, Any]:
    """The numbers, flags and strings by their keys. Raises `BackendError` for any other file, which
    it calls `name`."""
    return _read_head(path, name or path.name)[0]


@dataclass(frozen=True, slots=True)
class Head:
    """`values` by their keys, with arrays of up to some thousand numbers, such as one for each
    layer; `tensors`: how many numbers each has; `weights_bytes`: what stands behind the heads."""

    values: Mapping[str, Any]
    tensors: Mapping[str, int]
    weights_bytes: int


def read_head(path: Path, name: str = "") -> Head:
    """Of all files of a model. Raises `BackendError` for any other file, which it calls `name`."""
    values: dict[str, Any] = {}
    tensors: dict[str, int] = {}
    weights = 0
    for part in parts_of(path):
        own, sizes, length = _read_head(part, name or part.name, MOST_LAYERS)
        values = {**own, **values}
        tensors.update(sizes)
        size = part.stat().st_size
        _check_amount(sum(sizes.values()), size, name or part.name)
        weights += max(size - length, 0)
    return Head(values, tensors, weights)


def _check_amount(numbers: int, size: int, name: str) -> None:
    """Refuses tensors that the file cannot hold: memory is predicted by them."""
    if numbers > MOST_IN_BYTE * size:
        raise BackendError(
            f"{name} is not a whole GGUF file: its head speaks of {numbers} numbers, and it has "
            f"{size} bytes only",
            "Fetch it again.",
        )


def read_beginning(path: Path, name: str) -> Mapping[str, Any]:
    """The values before the vocabulary, which is most of a head: what the model is. Reads little of
    a file, whatever it holds. Raises `BackendError` for one that is certainly no GGUF file."""
    check_file(path, name)
    found: dict[str, Any] = {}
    with path.open("rb") as file:
        try:
            _magic, _version, _tensors, fields = _read(file, "4sIQQ")
            for _ in range(min(fields, _FIRST_FIELDS)):
                key = _short(file)
                [kind] = _read(file, "I")
                found[key] = _short_value(file, kind)
        except _MALFORMED:
            pass  # its beginning is what was wanted; loading finds out what is wrong with the rest
    return found


def tensor_sizes(path: Path) -> Mapping[str, int]:
    """How many numbers each tensor has. Raises `BackendError` for any other file."""
    return _read_head(path, path.name)[1]


def _read_head(
    path: Path, name: str, most_items: int = 0
) -> tuple[Mapping[str, Any], Mapping[str, int], int]:
    """The values, the tensors, and the length of it all."""
    check_file(path, name)
    with path.open("rb") as file:
        try:
            _magic, _version, tensors, fields = _read(file, "4sIQQ")
            return (
                dict(_field(file, most_items) for _ in range(fields)),
                dict(_tensor(file) for _ in range(tensors)),
                file.tell(),
            )
        except _MALFORMED:
            pass
    raise BackendError(
        f"{name} is not a whole GGUF file: it is cut short or damaged", "Fetch it again."
    )


def _tensor(file: IO[bytes]) -> tuple[str, int]:
    name = _text(file)
    [dimensions] = _read(file, "I")
    if dimensions > _MOST_DIMENSIONS:
        raise ValueError(dimensions)
    sizes = _read(file, f"{dimensions}Q")
    _read(file, "IQ")  # how its numbers are written, and where
    return name, math.prod(sizes)


def _beginning(path: Path) -> bytes:
    """Nothing of a file that cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(256)
    except OSError:
        return b""


def _field(file: IO[bytes], most_items: int) -> tuple[str, Any]:
    key = _text(file)
    [kind] = _read(file, "I")
    return key, _value(file, kind, most_items)


def _value(file: IO[bytes], kind: int, most_items: int = 0) -> Any:
    """Null for an array of more items, or of anything but numbers: it is passed over."""
    if kind == _STRING:
        return _text(file)
    if kind != _ARRAY:
        return _read(file, _NUMBERS[kind])[0]
    item, count = _read(file, "IQ")
    if item in _NUMBERS and count <= most_items:
        return _read(file, f"{count}{_NUMBERS[item]}")
    if item in _NUMBERS:
        file.seek(count * struct.calcsize(f"<{_NUMBERS[item]}"), 1)
    else:
        for _ in range(count):
            _value(file, item)
    return None


def _text(file: IO[bytes], most: int = _MOST_TEXT) -> str:
    [size] = _read(file, "Q")
    if size > most:
        raise ValueError(size)
    return file.read(size).decode()


def _short(file: IO[bytes]) -> str:
    return _text(file, _SHORT_BYTES)


def _short_value(file: IO[bytes], kind: int) -> Any:
    """Null for an array of few items, such as the model's languages."""
    if kind != _ARRAY:
        return _short(file) if kind == _STRING else _value(file, kind)
    item, count = _read(file, "IQ")
    if item == _ARRAY or count > _FIRST_FIELDS:
        raise ValueError(count)
    for _ in range(count):
        _short_value(file, item)
    return None


def _read(file: IO[bytes], layout: str) -> tuple[Any, ...]:
    """Little-endian values without gaps."""
    layout = f"<{layout}"
    return struct.unpack(layout, file.read(struct.calcsize(layout)))
