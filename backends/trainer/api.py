"""What a trainer offers: it learns from labelled rows, and scores the classes of other rows.
Standard library only.

It runs in a worker (`backends.worker`), as an engine does, and the harness never imports it.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from backends.wire import WireError

Method: TypeAlias = Literal["classifier", "two-towers", "clip"]
"""A text encoder with a classification head; projections of vectors and of label sentences into one
space; an image-text model."""

Weights: TypeAlias = Literal["pretrained", "fresh"]

MOST_CHARACTERS = 10_000  # of a text in a record


@dataclass(frozen=True, slots=True)
class TrainOrder:
    """Rows to learn from, to validate on, and to score, in this order.

    Rows are the `texts`, the paths of `images`, or the vectors in the file `vectors` (float32,
    .npy); one of the three. The first `fitted` rows and the `validated` after them have `labels`,
    indices into `classes`; the rest are the queries. `classes` are names, or sentences where the
    method reads them. `folder` is for checkpoints, and is there. Without `epochs`, a `device` or
    `threads` the method, or the machine, decides.
    """

    method: Method
    classes: tuple[str, ...]
    labels: array[int]
    fitted: int
    validated: int
    folder: str
    texts: tuple[str, ...] = ()
    images: tuple[str, ...] = ()
    vectors: str = ""
    seed: int = 0
    epochs: int | None = None
    device: str | None = None
    threads: int | None = None


@dataclass(frozen=True, slots=True)
class TrainStep:
    """A sign of life: what is being done, at which of `steps`, from which on epochs follow."""

    stage: str
    step: int = 0
    steps: int = 0
    epoch: float = 0.0
    epochs: int = 0
    loss: float | None = None
    steps_per_second: float | None = None


Tell: TypeAlias = Callable[[TrainStep], None]


@dataclass(frozen=True, slots=True)
class TrainInfo:
    """What was trained and how.

    `revision`: of the package or of the hub's snapshot, empty for a folder or fresh weights.
    `weights_sha256`: of the file of weights, or of the lines that `sha256sum` prints for several;
    of fresh ones before training. `epochs` were trained, `best_epoch` is the one whose weights are
    used. `cut`: how many texts were longer than the `longest` that the model takes, in tokens.
    `resumed_at`: the step of the checkpoint that it went on from.
    """

    engine: str
    model: str
    weights: Weights
    revision: str
    weights_sha256: str
    parameters: int
    device: str
    dtype: str
    threads: int
    epochs: float
    best_epoch: float
    cut: int = 0
    longest: int = 0
    resumed_at: int = 0


@dataclass(frozen=True, slots=True)
class Trained:
    """`validation` and `queries` have a score for each row and class, float32 as words of 32 bits:
    those of one row behind those of the row before."""

    info: TrainInfo
    validation: array[int]
    queries: array[int]


def encode_order(order: TrainOrder) -> dict[str, Any]:
    """The values of the request "train". An array travels only at the top."""
    fields = {name: getattr(order, name) for name in TrainOrder.__dataclass_fields__}
    return {"order": {**fields, "labels": None}, "labels": order.labels}


def decode_order(request: Mapping[str, Any]) -> TrainOrder:
    lists = {name: tuple(request["order"][name]) for name in ("classes", "texts", "images")}
    return TrainOrder(**{**request["order"], **lists, "labels": request["labels"]})


def encode_step(step: TrainStep) -> dict[str, Any]:
    fields = {name: getattr(step, name) for name in TrainStep.__dataclass_fields__}
    if step.loss is not None and not math.isfinite(step.loss):  # JSON has no such number
        fields["loss"] = None
    return {"event": "step", **fields}


def decode_step(message: Mapping[str, Any]) -> TrainStep:
    """Raises `WireError`."""
    fields = {name: value for name, value in message.items() if name != "event"}
    try:
        step = TrainStep(**fields)
    except TypeError as error:
        raise WireError(f"step: {error}") from error
    if message.get("event") != "step" or not _is_text(step.stage):
        raise WireError("step: not the sign of life that it should be")
    counts = (step.step, step.steps, step.epochs)
    if not all(type(count) is int and count >= 0 for count in counts):
        raise WireError("step: a count is no whole number")
    rates = (step.epoch, step.loss, step.steps_per_second)
    if not all(rate is None or _is_number(rate) for rate in rates) or step.epoch is None:
        raise WireError("step: a figure is no number")
    return step


def encode_trained(trained: Trained) -> dict[str, Any]:
    fields = {name: getattr(trained.info, name) for name in TrainInfo.__dataclass_fields__}
    return {"result": fields, "validation": trained.validation, "queries": trained.queries}


def decode_trained(
    message: Mapping[str, Any], validation: int, queries: int, classes: int
) -> Trained:
    """The inverse, of so many rows. Raises `WireError`."""
    found = message.get("result")
    if not isinstance(found, dict):
        raise WireError("result: not a record")
    try:
        info = TrainInfo(**found)
    except TypeError as error:
        raise WireError(f"result: {error}") from error
    texts = (info.engine, info.model, info.revision, info.weights_sha256, info.device, info.dtype)
    if not all(map(_is_text, texts)) or info.weights not in ("pretrained", "fresh"):
        raise WireError("result: a text is none, or very long")
    counts = (info.parameters, info.threads, info.cut, info.longest, info.resumed_at)
    if not all(type(count) is int and count >= 0 for count in counts):
        raise WireError("result: a count is no whole number")
    if not all(_is_number(epoch) and epoch >= 0 for epoch in (info.epochs, info.best_epoch)):
        raise WireError("result: an epoch is no number")
    of_validation = _scores(message, "validation", validation * classes)
    return Trained(info, of_validation, _scores(message, "queries", queries * classes))


def _scores(message: Mapping[str, Any], name: str, count: int) -> array[int]:
    values = message.get(name)
    if not isinstance(values, array) or len(values) != count:
        raise WireError(f"{name}: not a score for each row and class")
    return values


def _is_text(value: object) -> bool:
    return isinstance(value, str) and len(value) <= MOST_CHARACTERS


def _is_number(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return math.isfinite(value)
