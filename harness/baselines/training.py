"""The parent's side of a trainer: rows in, a score for each class of each query out.

    train rows -> those that are learnt from, those that are validated on -> worker -> scores

The same task goes on from its last checkpoint after any end. One process trains it at a time.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from array import array
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from harness.baselines.kind import Content, Labels, Prediction, Task
from harness.contract import (
    Method,
    ModelRef,
    Trained,
    TrainOrder,
    TrainStep,
    decode_step,
    decode_trained,
    encode_order,
    wire,
)
from harness.engine.interpreters import find_interpreter
from harness.engine.models import resolve_model
from harness.engine.process import ProcessTransport
from harness.engine.registry import TRAINER
from harness.engine.transport import Transport, WorkerFailedError
from harness.errors import DataError, EngineError, StoreError, UsageError
from harness.machine.homes import without_home
from harness.machine.memory import MemoryPeak
from harness.summary import Fact

_VALIDATION_SHARE = 0.1
_MOST_VALIDATION = 1000  # rows: a loss over more takes time, and ends the training no better
_TIMEOUT_SECONDS = 300.0
_VECTORS = "vectors.npy"


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """The train rows that are learnt from, and those that are validated on."""

    fitted: Labels
    validated: Labels


def hold_out(y: Labels, seed: int) -> Split:
    """A tenth of each class at random, and of each class with two rows or more at least one.

    Those held out are in random order: rows that lie by class would make batches of one class, in
    which a contrastive loss is the same for right and wrong. Raises `DataError` where no class has
    two.
    """
    rng = np.random.default_rng(seed)
    share = min(_VALIDATION_SHARE, _MOST_VALIDATION / len(y))
    held: list[NDArray[np.int64]] = []
    for label in np.unique(y):
        rows = np.flatnonzero(y == label)
        count = min(len(rows) - 1, max(1, round(share * len(rows))))
        held.append(rng.permutation(rows)[:count])
    validated = rng.permutation(np.concatenate(held))
    if not validated.size:
        raise DataError(
            "each class has one training row only, so that none is left to validate on",
            remedy="Give more training rows.",
        )
    return Split(np.setdiff1d(np.arange(len(y)), validated), validated)


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Rows to learn from, to validate on and to score, one behind the other: one of the three."""

    texts: Sequence[str] = ()
    images: Sequence[str] = ()
    vectors: Content | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """`validation` (v, classes) and `queries` (q, classes) are scores; the highest is the class."""

    validation: NDArray[np.float32]
    queries: NDArray[np.float32]
    trained: Trained
    peak: MemoryPeak

    def prediction(self, more: Mapping[str, Fact] | None = None) -> Prediction:
        return Prediction(
            self.queries.argmax(axis=1).astype(np.int64),
            {**_facts(self.trained), **(more or {})},
            peak_rss_mib=self.peak.rss_mib,
            peak_gpu_mib=self.peak.gpu_mib,
        )


def stacked(task: Task, split: Split) -> Content:
    """What the rows are, in the order of `Rows`."""
    X = task.X_train
    return np.concatenate([X[split.fitted], X[split.validated], task.X_queries])


def train(task: Task, method: Method, split: Split, rows: Rows, classes: Sequence[str]) -> Outcome:
    """`classes` are their names, or sentences of them. Raises `EngineError`, `StoreError`."""
    options = task.options
    model = options.get("model")
    found = None if model is None else _found(model)
    y = task.y_train
    with _folder(task) as folder:
        path = folder / _VECTORS
        if rows.vectors is not None:
            np.save(path, np.ascontiguousarray(rows.vectors, dtype=np.float32), allow_pickle=False)
        order = TrainOrder(
            method=method,
            classes=tuple(classes),
            labels=wire.ids_array([*y[split.fitted].tolist(), *y[split.validated].tolist()]),
            fitted=len(split.fitted),
            validated=len(split.validated),
            folder=str(folder),
            texts=tuple(rows.texts),
            images=tuple(rows.images),
            vectors="" if rows.vectors is None else str(path),
            seed=task.seed,
            epochs=options.get("epochs"),
            device=options.get("device"),
            threads=options.get("threads"),
        )
        try:
            return _train(task, found, order)
        finally:
            path.unlink(missing_ok=True)  # with the next try it is written again


def _found(model: str) -> ModelRef:
    try:
        return resolve_model(model, ("hf",), {})
    except UsageError as error:  # its remedy is for models that are prompted
        raise UsageError(
            f"--model: {error}",
            remedy="Give a folder with safetensors, or OWNER/MODEL as the hub calls it.",
        ) from error


def _train(task: Task, model: ModelRef | None, order: TrainOrder) -> Outcome:
    log = Path(order.folder) / "log"
    python = find_interpreter(TRAINER.name, None)
    transport = ProcessTransport(TRAINER.target, _TIMEOUT_SECONDS, log, python)
    queries, classes = len(task.X_queries), len(order.classes)
    try:
        transport.request(
            {
                "do": "train",
                "backend": TRAINER.target,
                "model": asdict(model) if model else None,
                **encode_order(order),
            }
        )
        message = _answer(transport, task)
        trained = decode_trained(message, order.validated, queries, classes)
        validation, scores = (_scores(w, classes) for w in (trained.validation, trained.queries))
        # Ended before its peak is read: what it needed at its end is part of it.
        transport.close()
    except (WorkerFailedError, wire.WireError) as error:
        raise EngineError(
            f"the training failed: {error}",
            remedy=f"See {log}. The same command goes on from the last checkpoint.",
        ) from error
    except EngineError as error:
        # Without a checkpoint there is nothing to go on with, and the log may not be named.
        if str(log) not in error.remedy and not any(log.parent.glob("checkpoint-*")):
            shutil.rmtree(log.parent, ignore_errors=True)
        raise
    finally:
        transport.kill()
    return Outcome(
        validation=validation,
        queries=scores,
        trained=trained,
        peak=transport.peak,
    )


def _answer(transport: Transport, task: Task) -> wire.Message:
    while True:
        message = transport.answer()
        if "event" not in message:
            return message
        task.say(said(decode_step(message)))


def said(step: TrainStep) -> str:
    """What it is at, in a few words."""
    if not step.steps:
        return step.stage
    parts = [step.stage]
    if step.epochs:
        parts.append(f"epoch {step.epoch:.1f} of {step.epochs}")
    parts.append(f"step {step.step:,} of {step.steps:,}")
    if step.loss is not None:
        parts.append(f"loss {step.loss:.3f}")
    if step.steps_per_second:
        left = (step.steps - step.step) / step.steps_per_second
        parts.append(f"{step.steps_per_second:.1f} steps/s, {left:,.0f} s left at most")
    return ", ".join(parts)


def _scores(words: array[int], classes: int) -> NDArray[np.float32]:
    scores = np.frombuffer(words, dtype=np.float32).reshape(-1, classes)
    if not np.isfinite(scores).all():
        raise wire.WireError("a score is no finite number")
    return scores


def _facts(trained: Trained) -> dict[str, Fact]:
    info = trained.info
    named = f"{without_home(info.model)} ({info.revision})" if info.revision else info.model
    cut = {"texts cut": info.cut, "to tokens": info.longest} if info.cut else {}
    resumed = {"resumed at step": info.resumed_at} if info.resumed_at else {}
    threads = f"{info.threads} {'thread' if info.threads == 1 else 'threads'}"
    return {
        "model": without_home(named),
        "weights": info.weights,
        "weights sha256": info.weights_sha256,
        "parameters": info.parameters,
        "epochs": info.epochs,
        "best epoch": info.best_epoch,
        "computed in": f"{info.dtype} on {info.device}, {threads}",
        "engine": info.engine,
        **cut,
        **resumed,
    }


@contextmanager
def _folder(task: Task) -> Iterator[Path]:
    """The task's folder, or one for the time being; no other process trains in it meanwhile."""
    if task.folder is None:
        with TemporaryDirectory() as scratch:
            yield Path(scratch)
        return
    folder = task.folder.resolve()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise StoreError(
            f"{folder} cannot be made: {error.strerror}",
            remedy="Name a --results folder that you may write to, with room on its disk.",
        ) from error
    try:
        _lock(lock)
        yield folder
    finally:
        os.close(lock)


def _lock(lock: int) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise StoreError(
            "another process trains the same baseline on the same data",
            remedy="Wait until it has ended, or end it.",
        ) from error
