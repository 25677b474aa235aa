"""What an embedder offers: images in, vectors out. Standard library only.

It runs in a worker (`backends.worker`), as an engine does, and the harness never imports it.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias

from backends.api import BackendError
from backends.wire import WireError

Pooling: TypeAlias = Literal["cls", "mean", "pooler"]

DEFAULT_MODEL = "efficientnet-lite0"
LAST = "last"  # the name of the layer behind the last block
MOST_CHARACTERS = 10_000  # of a text in a record
MOST_DIMENSIONS = 2**24
PACKAGE = "package"  # the model format of weights that come in a package


@dataclass(frozen=True, slots=True)
class EmbedderOptions:
    """How images become vectors. Without a `pooling`, an `image_size` (pixels, both sides), a
    `device` or `threads` the model, or the machine, decides.

    `layers` are numbers of blocks, counted from 1, or "last"; 0 is what goes into the first block.
    The vectors of several are joined. `batch` images go through the model at once.
    """

    layers: tuple[str, ...] = (LAST,)
    pooling: Pooling | None = None
    image_size: int | None = None
    batch: int = 8
    device: str | None = None
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "float32"
    threads: int | None = None


@dataclass(frozen=True, slots=True)
class EmbedderInfo:
    """What was opened, and how it makes a vector of an image.

    `revision`: of the package or of the hub's snapshot, empty for a folder. `weights_sha256`: of
    the file of weights, or of the lines that `sha256sum` prints for several.
    """

    engine: str
    model: str
    revision: str
    weights_sha256: str
    preprocessing: str
    layers: tuple[str, ...]
    pooling: Pooling
    dimensions: int
    device: str
    dtype: str
    threads: int


@dataclass(frozen=True, slots=True)
class Embedded:
    """One file. `vector` is float32 as `dimensions` words of 32 bits, `None` where the file was
    skipped, for the reason `skipped`. `note`: what was left out of an image that was embedded.
    `sha256` is that of the file, empty where it could not be read."""

    vector: array[int] | None
    sha256: str
    skipped: str = ""
    note: str = ""


class Embedder(Protocol):
    """One loaded model."""

    @property
    def info(self) -> EmbedderInfo: ...

    def embed(self, files: Sequence[str]) -> Iterator[Sequence[Embedded]]:
        """Of the files in their order, a batch at a time."""
        ...


def checked_layers(layers: tuple[str, ...], blocks: int, model: str) -> tuple[str, ...]:
    """Raises `BackendError` for a layer that a model of so many blocks does not have."""
    for layer in layers:
        if layer != LAST and not 0 <= int(layer) <= blocks:
            raise BackendError(
                f"{model} has {blocks} blocks, and no layer {layer}",
                f"Use --layer with numbers from 0 to {blocks}, or {LAST}.",
            )
    return layers


def encode_embedded(batch: Sequence[Embedded]) -> dict[str, Any]:
    """The message that holds a batch (`backends.worker`)."""
    vectors = array("i")
    for one in batch:
        vectors.extend(one.vector or ())
    files = [{"sha256": f.sha256, "skipped": f.skipped, "note": f.note} for f in batch]
    return {"event": "embedded", "files": files, "vectors": vectors}


def decode_embedded(message: Mapping[str, Any], files: int, dimensions: int) -> list[Embedded]:
    """The inverse, of a batch of at most so many files. Raises `WireError`."""
    every = message.get("files")
    if message.get("event") != "embedded" or not isinstance(every, list) or len(every) > files:
        raise WireError("files: not the batch of embedded files that it should be")
    vectors = message.get("vectors")
    if not isinstance(vectors, array):
        raise WireError("vectors: not an array")
    batch: list[Embedded] = []
    for one in every:
        if not isinstance(one, dict) or set(one) != {"sha256", "skipped", "note"}:
            raise WireError("files: one is no record of a file")
        if not all(isinstance(text, str) and len(text) <= MOST_CHARACTERS for text in one.values()):
            raise WireError("files: one has no text, or a very long one")
        at = dimensions * sum(earlier.vector is not None for earlier in batch)
        vector = None if one["skipped"] else vectors[at : at + dimensions]
        batch.append(Embedded(vector, **one))
    if len(vectors) != dimensions * sum(one.vector is not None for one in batch):
        raise WireError("vectors: not so many numbers as the files have")
    return batch


def decode_info(found: object) -> EmbedderInfo:
    """Raises `WireError` for what is no such record."""
    if not isinstance(found, dict):
        raise WireError("info: not a record")
    try:
        info = EmbedderInfo(**{**found, "layers": tuple(found["layers"])})
    except (TypeError, KeyError) as error:
        raise WireError(f"info: {error}") from error
    texts = [info.engine, info.model, info.revision, info.weights_sha256, info.preprocessing]
    texts += [*info.layers, info.pooling, info.device, info.dtype]
    if not all(isinstance(text, str) and len(text) <= MOST_CHARACTERS for text in texts):
        raise WireError("info: a text is none, or very long")
    if type(info.dimensions) is not int or not 0 < info.dimensions <= MOST_DIMENSIONS:
        raise WireError(f"info: dimensions is {info.dimensions!r:.40}")
    if type(info.threads) is not int:
        raise WireError("info: threads is no whole number")
    return info
