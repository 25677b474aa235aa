"""The stored form of prompts: what those of a voter share is stored once.

The prompts of a voter differ in their last few words, so one block of bytes holds all of them: the
beginning that they share, then the tail of each. It is the number of pieces, the length of each in
bytes and the pieces themselves, with every number a little-endian int32, compressed by zlib.

Texts come back exactly, lone surrogates too, and so do token ids.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

MOST_BYTES = 2**30
"""Of the prompts of one voter that come from elsewhere."""

_INT32 = np.dtype("<i4")

Prompt = TypeVar("Prompt", str, list[int])


def tokens_sha256(token_ids: Sequence[int]) -> str:
    """Of the ids as little-endian 64-bit integers."""
    # 64 bits, although ids are stored with 32: earlier versions hashed so, and a resume compares
    # their hashes with those of now.
    return hashlib.sha256(np.asarray(token_ids, dtype="<i8").tobytes()).hexdigest()


def pack_texts(texts: Sequence[str]) -> bytes:
    """The texts of one voter, in order."""
    shared = _shared_length(texts)
    pieces = [texts[0][:shared], *(text[shared:] for text in texts)] if texts else []
    return _compressed([piece.encode(errors="surrogatepass") for piece in pieces])


def unpack_texts(content: bytes) -> list[str]:
    """Raises `ValueError` where `content` is not what `pack_texts` gave."""
    pieces = [piece.decode(errors="surrogatepass") for piece in _pieces(content)]
    return [pieces[0] + tail for tail in pieces[1:]]


def pack_ids(token_ids: Sequence[Sequence[int]]) -> bytes:
    """The token ids of the prompts of one voter, in order; each fits into an int32."""
    # Lists, because arrays cannot be sorted.
    every = [np.asarray(ids, dtype=_INT32).tolist() for ids in token_ids]
    shared = _shared_length(every)
    pieces = [every[0][:shared], *(ids[shared:] for ids in every)] if every else []
    return _compressed([np.asarray(piece, dtype=_INT32).tobytes() for piece in pieces])


def unpack_ids(content: bytes) -> list[NDArray[np.int32]]:
    """Raises `ValueError` where `content` is not what `pack_ids` gave."""
    pieces = [np.frombuffer(piece, dtype=_INT32).astype(np.int32) for piece in _pieces(content)]
    return [np.concatenate([pieces[0], tail]) for tail in pieces[1:]]


def text_hashes(content: bytes) -> list[str]:
    """The hash of each text in `content`, without making the texts. Raises `ValueError`, also for
    what would be larger than any run has."""
    shared, *tails = _bounded(content)
    begun = hashlib.sha256(_printable(shared))
    return [_hash(begun, _printable(tail)) for tail in tails]


def ids_hashes(content: bytes) -> list[tuple[str, int]]:
    """The same of token ids, as `tokens_sha256` has it, and how many each prompt has."""
    shared, *tails = _bounded(content)
    begun, width = hashlib.sha256(_wide(shared)), _INT32.itemsize
    return [(_hash(begun, _wide(tail)), (len(shared) + len(tail)) // width) for tail in tails]


def _bounded(content: bytes) -> list[bytes]:
    unpacker = zlib.decompressobj()
    try:
        size = len(unpacker.decompress(content, MOST_BYTES))
    except zlib.error as error:
        raise ValueError(f"its prompts are damaged: {error}") from error
    pieces = _pieces(content) if not unpacker.unconsumed_tail else []
    # Each prompt has the beginning again once it is unpacked.
    if not pieces or size + len(pieces) * len(pieces[0]) > MOST_BYTES:
        raise ValueError(f"the prompts of a voter are none, or larger than {MOST_BYTES:,} bytes")
    return pieces


def _hash(begun: hashlib._Hash, tail: bytes) -> str:
    whole = begun.copy()
    whole.update(tail)
    return whole.hexdigest()


def _printable(piece: bytes) -> bytes:
    return piece.decode(errors="surrogatepass").encode(errors="replace")


def _wide(piece: bytes) -> bytes:
    return np.frombuffer(piece, dtype=_INT32).astype("<i8").tobytes()


def _shared_length(prompts: Sequence[Prompt]) -> int:
    """How far all of them begin alike: as far as the first and the last in their order do."""
    if not prompts:
        return 0
    first, last = min(prompts), max(prompts)
    shorter = min(len(first), len(last))
    return next((place for place in range(shorter) if first[place] != last[place]), shorter)


def _compressed(pieces: Sequence[bytes]) -> bytes:
    head = np.array([len(pieces), *map(len, pieces)], dtype=_INT32)
    return zlib.compress(head.tobytes() + b"".join(pieces))


def _pieces(content: bytes) -> list[bytes]:
    try:
        data = zlib.decompress(content)
    except zlib.error as error:
        raise ValueError(f"its prompts are damaged: {error}") from error
    width = _INT32.itemsize
    count = int(np.frombuffer(data, _INT32, count=1)[0])
    lengths = np.frombuffer(data, _INT32, count=max(count, 0), offset=width)
    if count < 0 or lengths.min(initial=0) < 0:
        raise ValueError("its prompts are damaged: a length is negative")
    ends = width * (1 + count) + np.cumsum(lengths, dtype=np.int64)
    if count and ends[-1] != len(data):
        raise ValueError("its prompts are damaged: their lengths do not add up")
    return [data[end - length : end] for end, length in zip(ends, lengths, strict=True)]
