"""An embedder for tests of the parent: vectors of the files' bytes, faults by the files' names."""

from __future__ import annotations

import hashlib
import os
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from backends.api import BackendError
from backends.embedder.api import Embedded, EmbedderInfo

DIMENSIONS = 3
FORMATS: tuple[str, ...] = ()
OPTIONS: tuple[Any, ...] = ()


def open_embedder(model: Any, options: Any) -> Stub:
    if os.environ.get("STUB_FAILS"):
        raise BackendError("it cannot be opened", "Try another.")
    return Stub(options.batch, options.layers)


class Stub:
    def __init__(self, batch: int, layers: tuple[str, ...]) -> None:
        self._batch = batch
        self.info = EmbedderInfo(
            engine="stub 1",
            model="stub",
            revision="",
            weights_sha256="0" * 64,
            preprocessing="none",
            layers=layers,
            pooling="mean",
            dimensions=DIMENSIONS,
            device="cpu",
            dtype="float32",
            threads=1,
        )

    def embed(self, files: Sequence[str]) -> Iterator[Sequence[Embedded]]:
        for start in range(0, len(files), self._batch):
            yield [_one(Path(file)) for file in files[start : start + self._batch]]


def _one(file: Path) -> Embedded:
    if "crash" in file.name:
        os._exit(7)
    if "error" in file.name:
        raise BackendError("no memory is left", "Use less.")
    content = file.read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    if "skip" in file.name:
        return Embedded(None, sha256, skipped="damaged")
    numbers = [float("nan")] * 3 if "nan" in file.name else [len(content), content[0], content[-1]]
    words = array("i")
    words.frombytes(array("f", numbers).tobytes())
    return Embedded(words, sha256, note="first of 2 frames" if "moving" in file.name else "")
