"""The record of labelled data, and the hash that says whether two runs had the same.

Data are vectors or texts. Both are rows with labels in two splits; what is made of a row for a
prompt is up to the encoder of its kind (`harness.workload.encoders`).
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from harness.summary import DataFacts

Vectors: TypeAlias = NDArray[np.float32]
Texts: TypeAlias = NDArray[np.object_]
"""Of str, (n,)."""

Kind: TypeAlias = Literal["vectors", "text"]
Split: TypeAlias = tuple[NDArray[Any], NDArray[np.int64]]
"""X, vectors (n, d) or texts (n,), and y (n,): the rows of one split in the order in which they
were read."""


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """Vectors or texts and their labels, in two splits.

    X_*: float32 (n, d), finite, or texts as they were read, object (n,). y_*: int64 (n,), indices
    into `classes`, which are sorted. `train_test_duplicates`: test rows that also occur in train:
    vectors equal in every byte, texts equal as a prompt shows them, whatever Unicode form they are
    in. `sha256` is `data_sha256` of it all: what makes two datasets the same, whatever they are
    called. `facts` say how it was read. `images_*` name the image that each row was made of, as
    SPLIT/CLASS/NAME, of a folder of vectors without the ending; empty where the data do not say it.
    """

    name: str
    classes: tuple[str, ...]
    X_train: NDArray[Any]
    y_train: NDArray[np.int64]
    X_test: NDArray[Any]
    y_test: NDArray[np.int64]
    train_test_duplicates: int
    sha256: str
    facts: DataFacts
    images_train: Sequence[str] = ()
    images_test: Sequence[str] = ()

    @property
    def kind(self) -> Kind:
        return kind_of(self.X_train)


def kind_of(X: NDArray[Any]) -> Kind:
    return "text" if X.ndim == 1 else "vectors"


def make_dataset(
    name: str,
    classes: tuple[str, ...],
    train: Split,
    test: Split,
    images: tuple[Sequence[str], Sequence[str]] = ((), ()),
    **facts: Any,
) -> Dataset:
    """The dataset of what was read, with what is counted and hashed of it.

    `facts` are those fields of `DataFacts` that only a reader knows.
    """
    X = train[0]
    return Dataset(
        name=name,
        classes=classes,
        X_train=X,
        y_train=train[1],
        X_test=test[0],
        y_test=test[1],
        train_test_duplicates=count_shared(X, test[0]),
        sha256=data_sha256(classes, train, test),
        facts=DataFacts(
            kind=kind_of(X),
            numbers=X.shape[1] if X.ndim > 1 else None,
            train=len(train[1]),
            test=len(test[1]),
            classes=len(classes),
            **facts,
        ),
        images_train=images[0],
        images_test=images[1],
    )


def one_line(text: str) -> str:
    """A text as a prompt shows it: white space and control characters are one space each run.

    An example is a line or two of a prompt. A text with line breaks of its own could look like
    several examples, with labels that nobody gave.
    """
    return " ".join(text.translate(_CONTROLS).split())


_CONTROLS = dict.fromkeys([*range(0x20), *range(0x7F, 0xA0)], " ")  # Unicode's category Cc


def count_shared(X_train: NDArray[Any], X_test: NDArray[Any]) -> int:
    """How many rows of X_test occur in X_train."""
    of_kind: dict[Kind, Callable[[Any], bytes | str]] = {
        "vectors": lambda row: row.tobytes(),
        "text": lambda text: unicodedata.normalize("NFC", one_line(text)),
    }
    content = of_kind[kind_of(X_train)]
    seen = set(map(content, X_train))
    return sum(content(row) in seen for row in X_test)


def data_sha256(classes: Sequence[str], train: Split, test: Split) -> str:
    """SHA-256 of the rows as they were read and of the class names; not of where they were read.

    The kind of data ("vectors" or "text"), the number of classes and each name in UTF-8, then the
    parts of train and of test: of vectors the shape of X and X as float32, of texts their number
    and each in UTF-8; then y as int64. All numbers are little-endian, and each part has its length
    in bytes before it, so that no two contents are one text.
    """
    digest = hashlib.sha256()

    def add(parts: Iterable[bytes | memoryview]) -> None:
        for part in parts:
            digest.update(len(part).to_bytes(8, "little"))
            digest.update(part)

    kind = kind_of(train[0])
    # A folder's name may hold bytes that are no text: they get through as lone surrogates.
    names = [name.encode("utf-8", errors="surrogatepass") for name in classes]
    add([kind.encode(), len(names).to_bytes(8, "little"), *names])
    for X, y in (train, test):
        add(_text_parts(X) if kind == "text" else _vector_parts(X))
        add([_bytes(y.astype("<i8", copy=False))])
    return digest.hexdigest()


def _vector_parts(X: Vectors) -> Iterator[memoryview]:
    yield _bytes(np.array(X.shape, dtype="<i8"))
    yield _bytes(X.astype("<f4", copy=False))


def _text_parts(X: Texts) -> Iterator[bytes]:
    yield len(X).to_bytes(8, "little")
    yield from (text.encode() for text in X)


def _bytes(array: NDArray[Any]) -> memoryview:
    # In place: `tobytes` would take as much memory again.
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
