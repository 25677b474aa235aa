"""Numbers as text: what stands in the prompt for them.

    int:LEVELS            uniform bins between the least and the greatest train value, as "0",
                          "1", ... LEVELS-1; what lies outside falls into the first or last bin
    int:LEVELS:quantile   the same with bins of equal train counts
    decimal:PLACES        fixed-point text, rounded half to even on the exact binary value

Encoding keeps order: a greater number never gets a word that reads smaller.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from harness.errors import UsageError

Floats: TypeAlias = NDArray[np.float64]

_FORM = re.compile(r"(int|decimal):(0|[1-9][0-9]{0,4})(:quantile)?", re.ASCII)
# A float64 has 15 decimals that survive; more than 10,000 bins are more than any prompt holds.
_BOUNDS = {"int": (2, 10_000), "int:quantile": (2, 10_000), "decimal": (0, 15)}


@dataclass(frozen=True, slots=True, eq=False)
class Coded:
    """`words` are all that there may be (object, of str); `places` (n, k) say which stands for each
    number."""

    words: NDArray[np.object_]
    places: NDArray[np.int64]


class Encoding(ABC):
    """A fitted encoding of k numbers."""

    __slots__ = ()

    @abstractmethod
    def coded(self, numbers: Floats) -> Coded:
        """The words of numbers (n, k)."""

    def encode(self, numbers: Floats) -> list[tuple[str, ...]]:
        """The same as n tuples of k words."""
        coded = self.coded(numbers)
        # Looked up: to write each word again takes most of the time, and memory for each.
        return list(map(tuple, coded.words[coded.places].tolist()))


@dataclass(frozen=True, slots=True, eq=False)
class BinEncoding(Encoding):
    """`edges`: inner edges (k, LEVELS-1), ascending; a number equal to one is above it."""

    edges: Floats

    def coded(self, numbers: Floats) -> Coded:
        columns = zip(self.edges, numbers.T, strict=True)
        bins = [np.searchsorted(edges, column, side="right") for edges, column in columns]
        words = [str(one) for one in range(self.edges.shape[1] + 1)]
        # Column behind column: rows behind each other would take as long as all the searches.
        return Coded(np.array(words, dtype=np.object_), np.stack(bins).T)


@dataclass(frozen=True, slots=True)
class DecimalEncoding(Encoding):
    places: int

    def coded(self, numbers: Floats) -> Coded:
        form = f"z.{self.places}f"  # z: no negative zero (PEP 682)
        known: dict[str, int] = {}
        written = (format(number, form) for number in numbers.ravel().tolist())
        places = [known.setdefault(word, len(known)) for word in written]
        shape = np.array(places, dtype=np.int64).reshape(numbers.shape)
        return Coded(np.array(list(known), dtype=np.object_), shape)


@dataclass(frozen=True, slots=True)
class EncodingSpec:
    """`kind`: int, int:quantile or decimal. `size`: its LEVELS or PLACES."""

    kind: str
    size: int


def parse_encoding(spec: str) -> EncodingSpec:
    """The parts of an encoding's text. Raises `UsageError`."""
    match = _FORM.fullmatch(spec)
    if match is not None:
        form = EncodingSpec(match[1] + (match[3] or ""), int(match[2]))
        # (1, 0) has nothing between: the pattern also takes decimal:3:quantile, which there is not.
        low, high = _BOUNDS.get(form.kind, (1, 0))
        if low <= form.size <= high:
            return form
    raise UsageError(
        f"encoding {spec!r} is not known",
        remedy="Write int:LEVELS or int:LEVELS:quantile (2 to 10000 levels), "
        "or decimal:PLACES (0 to 15).",
    )


def fit_encoding(spec: str, numbers: Floats) -> Encoding:
    """Fit to train numbers (n, k), n of 1 or more. Raises `UsageError` where the text is wrong."""
    form = parse_encoding(spec)
    if form.kind == "decimal":
        return DecimalEncoding(form.size)
    # Without both ends: the first and the last bin are open, for numbers beyond the train values.
    shares = np.linspace(0, 1, form.size + 1)[1:-1]
    if form.kind == "int:quantile":
        return BinEncoding(np.quantile(numbers, shares, axis=0).T)
    low, high = numbers.min(axis=0)[:, None], numbers.max(axis=0)[:, None]
    return BinEncoding(low + (high - low) * shares)
