"""From a folder of images to a dataset of their embeddings, whole.

    images -> worker (reads and embeds, a batch at a time) -> OUT.part -> OUT -> harness run --data

What is done is stored as it comes. The same command goes on after any end, and gives the same file.
"""

from __future__ import annotations

import functools
import hashlib
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from harness.contract import (
    DEFAULT_EMBEDDER,
    PACKAGE,
    Embedded,
    EmbedderInfo,
    EmbedderOptions,
    ModelRef,
)
from harness.embedding.output import Embeddings, check_form, write
from harness.embedding.partial import Partial, locked, opened, remove, remove_unbegun
from harness.embedding.session import EmbedderSession
from harness.engine.models import resolve_model
from harness.engine.transport import WorkerFailedError
from harness.errors import EngineError, UsageError
from harness.machine.homes import without_home
from harness.workload.images import (
    ImageFile,
    check_some,
    list_images,
    listing_sha256,
)

_BATCHES = 32  # that a worker is given at once
_MOST_FAILURES = 3  # of the worker in a row, until it is no longer the images' fault
_TIMEOUT_SECONDS = 300.0


_DEFAULTS = EmbedderOptions()


@dataclass(frozen=True, slots=True)
class EmbedOrder:
    """`images` is the folder, `out` what is written; `model` a name, a folder or a hub name."""

    images: Path
    out: Path
    model: str = DEFAULT_EMBEDDER
    options: EmbedderOptions = _DEFAULTS


@dataclass(frozen=True, slots=True)
class Skipped:
    file: str
    reason: str


@dataclass(frozen=True, slots=True)
class Update:
    """`done` of `total` files, `skipped` among them; `images_per_second` since this start."""

    done: int
    total: int
    skipped: int
    images_per_second: float


@dataclass(frozen=True, slots=True)
class Result:
    """What was written. `counts` are images by (split, class); `embedded_now` of them were
    embedded since this start, in `embed_seconds`, the rest before."""

    out: Path
    info: EmbedderInfo
    counts: Sequence[tuple[str, str, int]]
    skipped: Sequence[Skipped]
    notes: Sequence[Skipped]
    embedded_now: int
    embed_seconds: float
    peak_rss_mib: float | None


Observer = Callable[[Update], None]


def embed(order: EmbedOrder, observe: Observer = lambda _: None) -> Result:
    """Raises `HarnessError`."""
    check_form(order.out)
    if order.out.exists():
        raise UsageError(f"{order.out} is there already", remedy="Remove it, or name another -o.")
    images = list_images(order.images)
    model = _find_model(order.model)
    with locked(order.out) as folder:
        log = folder / "log"
        try:
            worker = _Worker(model, order.options, log)
        except EngineError as error:
            if str(log) not in error.remedy:
                remove_unbegun(folder)
            raise
        try:
            info = worker.info
            plan = {
                "images": listing_sha256(images),
                "batch": order.options.batch,
                **_how(info),
            }
            with opened(folder, plan, order.options.batch) as partial:
                _drop_changed(order.images, images, partial, order.options.batch)
                before = len(partial.done)
                began = time.perf_counter()
                _embed_rest(worker, order, images, partial, observe)
                seconds = time.perf_counter() - began
                peak = worker.peak_rss_mib
                check_some(images, [not line.skipped for line in partial.done], order.images)
                write(order.out, folder, _embeddings(images, partial, info))
                result = _result(order, info, images, partial)
        finally:
            worker.close()
        remove(folder)
    return replace(
        result,
        embedded_now=len(images) - before,
        embed_seconds=seconds,
        peak_rss_mib=peak,
    )


def _find_model(model: str) -> ModelRef:
    if model == DEFAULT_EMBEDDER:
        return ModelRef(model, PACKAGE, "")
    return resolve_model(model, ("hf",), {})


class _Worker:
    """The embedder, in a fresh worker after one that failed. `failures`: on how many images in a
    row it did."""

    def __init__(self, model: ModelRef, options: EmbedderOptions, log: Path) -> None:
        self._open = functools.partial(EmbedderSession, model, options, log, _TIMEOUT_SECONDS)
        self._session = self._open()
        self.info = self._session.info
        self._earlier_peak = 0.0
        self.failures = 0

    @property
    def peak_rss_mib(self) -> float:
        return max(self._earlier_peak, self._session.peak_rss_mib or 0.0)

    def embed(self, files: Sequence[Path]) -> Iterator[Sequence[Embedded]]:
        try:
            yield from self._session.embed(files)
        except WorkerFailedError:
            self._earlier_peak = self.peak_rss_mib
            self._session = self._open()
            raise

    def close(self) -> None:
        self._session.close()


def _embed_rest(
    worker: _Worker,
    order: EmbedOrder,
    images: Sequence[ImageFile],
    partial: Partial,
    observe: Observer,
) -> None:
    began, before = time.perf_counter(), len(partial.done)
    paths = [order.images / image.split / image.label / image.name for image in images]
    size = order.options.batch

    def add(batch: Sequence[Embedded]) -> None:
        _check_finite(batch, images[len(partial.done) :])
        partial.add(batch)
        skipped = sum(bool(line.skipped) for line in partial.done)
        rate = (len(partial.done) - before) / (time.perf_counter() - began)
        observe(Update(len(partial.done), len(images), skipped, rate))

    while left := paths[len(partial.done) :]:
        try:
            for batch in worker.embed(left[: _BATCHES * size]):
                add(batch)
        except WorkerFailedError:
            # One of these files is to blame: it costs itself, and not the others.
            add(_one_by_one(worker, paths[len(partial.done) :][:size]))


def _one_by_one(worker: _Worker, files: Sequence[Path]) -> Sequence[Embedded]:
    done: list[Embedded] = []
    for file in files:
        try:
            [[one]] = worker.embed([file])
            worker.failures = 0
        except WorkerFailedError as error:
            worker.failures += 1
            if worker.failures == _MOST_FAILURES:
                raise EngineError(
                    f"the embedder failed on {_MOST_FAILURES} images in a row: {error.reason}",
                    remedy="Use a smaller --batch-size or --image-size, or another --device; the "
                    "same command goes on where this one ended.",
                ) from error
            one = Embedded(None, _sha256(file), f"the embedder failed on it: {error.reason}")
        done.append(one)
    return done


def _check_finite(batch: Sequence[Embedded], images: Sequence[ImageFile]) -> None:
    for one, image in zip(batch, images, strict=False):
        if one.vector is None:
            continue
        if not np.isfinite(np.frombuffer(one.vector, dtype=np.float32)).all():
            raise EngineError(
                f"the model's numbers for {image.place} are not finite",
                remedy="Use --dtype float32, or another --model: its weights may be damaged.",
            )


def _drop_changed(folder: Path, images: Sequence[ImageFile], partial: Partial, batch: int) -> None:
    """What was embedded before a file changed is as good as not embedded, from its batch on."""
    for at, (image, line) in enumerate(zip(images, partial.done, strict=False)):
        if line.sha256 and line.sha256 != _sha256(folder / image.split / image.label / image.name):
            partial.cut(at - at % batch)
            return


def _sha256(path: Path) -> str:
    with suppress(OSError):
        if path.is_file():
            with path.open("rb") as stream:
                return hashlib.file_digest(stream, "sha256").hexdigest()
    return ""


def _how(info: EmbedderInfo) -> dict[str, Any]:
    """What of the embedder makes the numbers. The number of threads does not."""
    found = asdict(info)
    del found["threads"]
    return {**found, "layers": list(info.layers)}


def _embeddings(images: Sequence[ImageFile], partial: Partial, info: EmbedderInfo) -> Embeddings:
    there = zip(images, partial.done, strict=True)
    content = "\n".join(line.sha256 for line in partial.done)
    metadata = {
        **_how(info),
        "model": without_home(info.model),
        "images_sha256": hashlib.sha256(content.encode()).hexdigest(),
        "skipped": [asdict(one) for one in _remarks(images, partial, "skipped")],
    }
    return Embeddings(
        [image for image, line in there if not line.skipped], partial.vectors(), metadata
    )


def _remarks(images: Sequence[ImageFile], partial: Partial, kind: str) -> list[Skipped]:
    pairs = zip(images, partial.done, strict=True)
    return [Skipped(image.place, text) for image, line in pairs if (text := getattr(line, kind))]


def _result(
    order: EmbedOrder, info: EmbedderInfo, images: Sequence[ImageFile], partial: Partial
) -> Result:
    pairs = zip(images, partial.done, strict=True)
    counts = Counter((image.split, image.label) for image, line in pairs if not line.skipped)
    return Result(
        out=order.out,
        info=info,
        counts=[(split, label, count) for (split, label), count in counts.items()],
        skipped=_remarks(images, partial, "skipped"),
        notes=_remarks(images, partial, "note"),
        embedded_now=0,
        embed_seconds=0.0,
        peak_rss_mib=None,
    )
