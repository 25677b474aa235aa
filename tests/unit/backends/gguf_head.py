"""The beginning of a GGUF file, written by hand, so that it can be wrong."""

from __future__ import annotations

import struct

STRING, ARRAY = 8, 9


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value)) + value.encode()


def head(architecture: str, *fields: tuple[str, bytes]) -> bytes:
    """With these fields behind the architecture: each a key, and its kind and value as bytes."""
    first = ("general.architecture", struct.pack("<I", STRING) + text(architecture))
    every = [first, *fields]
    begin = b"GGUF" + struct.pack("<IQQ", 3, 0, len(every))
    return begin + b"".join(text(key) + value for key, value in every)
