"""One way to train, whatever is trained: transformers' Trainer, with early stopping on the
validation rows, checkpoints to go on from, and signs of life.

    FOLDER/plan.json        what is trained, and how: checkpoints of anything else are removed
           checkpoint-N/    the Trainer's: safetensors, and torch files that are read weights-only
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import time
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from transformers import Trainer, TrainerCallback, TrainingArguments

from backends.api import BackendError
from backends.hf import devices
from backends.trainer.api import Tell, Trained, TrainInfo, TrainOrder, TrainStep, Weights

_PATIENCE = 2
"""So many validations in a row without a smaller loss end the training."""
_MOST_STEPS_BETWEEN = 500
"""Steps between two validations, which save a checkpoint each: an epoch, or a part of one."""
_SECONDS_BETWEEN_SIGNS = 0.5
_STEPS_BETWEEN_LOSSES = 10
_STATE = "trainer_state.json"  # of a checkpoint; written last
_WARM_UP = 0.1  # of all steps
_WEIGHT_DECAY = 0.01


@dataclass(frozen=True, slots=True)
class Source:
    """What is trained: see `TrainInfo`."""

    model: str
    weights: Weights
    revision: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Lesson:
    """What a method makes of an order.

    `module` returns `loss`, where there are `labels`, and `logits` (n, classes). `rows` has all
    rows of the order, each as the mapping that `collate` makes batches of; those that are learnt
    from have `labels`. `by_length`: batches are of rows of one length.
    """

    module: torch.nn.Module
    rows: Sequence[Mapping[str, Any]]
    collate: Callable[[list[Any]], dict[str, Any]]
    source: Source
    batch: int
    learning_rate: float
    epochs: int
    by_length: bool = False
    reduced: bool = True
    """Whether it may compute in bfloat16, where the device does."""
    cut: int = 0
    longest: int = 0


def teach(
    lesson: Lesson, order: TrainOrder, device: torch.device, threads: int, tell: Tell
) -> Trained:
    epochs = lesson.epochs if order.epochs is None else order.epochs
    dtype = devices.dtype("auto", device) if lesson.reduced else torch.float32
    resumed = _checkpoint(Path(order.folder), _plan(lesson, order, epochs, dtype))
    labelled = order.fitted + order.validated
    watch = _Watch(tell)
    trainer = Trainer(
        model=lesson.module,
        args=_arguments(lesson, order, epochs, device, dtype),
        train_dataset=_Part(lesson.rows, 0, order.fitted),
        eval_dataset=_Part(lesson.rows, order.fitted, labelled),
        data_collator=lesson.collate,
        callbacks=[watch],
    )
    # It prints each log, and the progress it shows is a bar.
    for callback in (transformers.PrinterCallback, transformers.ProgressCallback):
        trainer.remove_callback(callback)
    used = _device_used(trainer, device)
    with _deterministic():
        if epochs:
            trainer.train(resume_from_checkpoint=str(resumed) if resumed else None)
        watch.stage = "scoring"
        # Batches by length would come in the order of lengths, and so would their scores.
        trainer.args.train_sampling_strategy = "sequential"
        scored = [
            _scores(trainer, _Part(lesson.rows, first, last, with_labels=False))
            for first, last in ((order.fitted, labelled), (labelled, len(lesson.rows)))
        ]
    state = trainer.state
    info = TrainInfo(
        engine=f"transformers {transformers.__version__}, torch {torch.__version__}",
        model=lesson.source.model,
        weights=lesson.source.weights,
        revision=lesson.source.revision,
        weights_sha256=lesson.source.sha256,
        parameters=sum(one.numel() for one in lesson.module.parameters()),
        device=str(used) if trainer.args.n_gpu < 2 else f"{trainer.args.n_gpu} x {used.type}",
        dtype=str(dtype).removeprefix("torch."),
        threads=threads,
        epochs=round(float(state.epoch or 0), 2),
        best_epoch=_best_epoch(state),
        cut=lesson.cut,
        longest=lesson.longest,
        resumed_at=_step_of(resumed) if resumed else 0,
    )
    return Trained(info, *scored)


def _plan(lesson: Lesson, order: TrainOrder, epochs: int, dtype: torch.dtype) -> dict[str, Any]:
    """What decides the result: a checkpoint of another plan is not gone on with."""
    return {
        "folder": order.folder,
        "method": order.method,
        "batch": lesson.batch,
        "learning_rate": lesson.learning_rate,
        "weights": lesson.source.sha256,
        "rows": _rows_sha256(order),
        "split": [order.fitted, order.validated],
        "seed": order.seed,
        "epochs": epochs,
        "dtype": str(dtype),
        "engine": [torch.__version__, transformers.__version__],
    }


def _device_used(trainer: Trainer, wanted: torch.device) -> torch.device:
    """transformers takes the first that it sees, whatever was named. Raises `BackendError` where
    that is another than the one that was."""
    used: torch.device = trainer.args.device
    if wanted.index not in (None, used.index):
        raise BackendError(
            f"training cannot be on {wanted}: transformers would use {used}",
            f"Set CUDA_VISIBLE_DEVICES={wanted.index} before the command, and leave out --device.",
        )
    return used


def _arguments(
    lesson: Lesson, order: TrainOrder, epochs: int, device: torch.device, dtype: torch.dtype
) -> TrainingArguments:
    steps = math.ceil(order.fitted / lesson.batch)
    between = math.ceil(steps / math.ceil(steps / _MOST_STEPS_BETWEEN))
    return TrainingArguments(
        output_dir=order.folder,
        num_train_epochs=epochs,
        per_device_train_batch_size=lesson.batch,
        per_device_eval_batch_size=2 * lesson.batch,
        learning_rate=lesson.learning_rate,
        weight_decay=_WEIGHT_DECAY,
        warmup_steps=_WARM_UP,
        train_sampling_strategy="group_by_length" if lesson.by_length else "random",
        eval_strategy="steps",
        eval_steps=between,
        save_strategy="steps",
        save_steps=between,
        save_total_limit=1,  # and the best, where that is another
        load_best_model_at_end=True,
        metric_for_best_model="eval_loss",
        greater_is_better=False,
        logging_steps=_STEPS_BETWEEN_LOSSES,
        bf16=dtype is torch.bfloat16,
        use_cpu=device.type == "cpu",
        seed=order.seed % 2**32,
        data_seed=order.seed % 2**32,
        remove_unused_columns=False,
        dataloader_pin_memory=False,
        label_names=["labels"],
        report_to="none",
        disable_tqdm=True,
    )


class _Watch(TrainerCallback):
    """Gives signs of life, and ends the training early."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._told = 0.0
        self._began = time.perf_counter()
        self._first = 0
        self._loss: float | None = None
        self.stage = "training"

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        del args
        self._began, self._first = time.perf_counter(), state.global_step
        if is_over(state.log_history):  # the checkpoint is the last one
            control.should_training_stop = True

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        del args, control
        self._sign(state, "training")

    def on_prediction_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        del args, control
        self._sign(state, self.stage if self.stage != "training" else "validating")

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        del args, state, control
        self._loss = (logs or {}).get("loss", self._loss)

    def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        del args
        if is_over(state.log_history):
            control.should_training_stop = True

    def _sign(self, state: Any, stage: str) -> None:
        now = time.perf_counter()
        if now - self._told < _SECONDS_BETWEEN_SIGNS:
            return
        self._told = now
        done = state.global_step - self._first
        rate = done / (now - self._began) if done else None
        self._tell(
            TrainStep(
                stage,
                step=state.global_step,
                steps=state.max_steps,
                epoch=float(state.epoch or 0),
                epochs=math.ceil(state.num_train_epochs),
                loss=self._loss,
                steps_per_second=rate,
            )
        )


def is_over(history: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the last validations had no smaller loss than one before. What a checkpoint holds is
    enough to tell: so a training that is resumed ends where it would have ended."""
    losses = [entry["eval_loss"] for entry in history if "eval_loss" in entry]
    best = min(range(len(losses)), key=losses.__getitem__, default=0)
    return len(losses) - 1 - best >= _PATIENCE


def _best_epoch(state: Any) -> float:
    """The epoch of the step whose weights are used."""
    epochs = [e["epoch"] for e in state.log_history if e["step"] == state.best_global_step]
    return round(float(epochs[0]), 2) if epochs else 0.0


class _Part(torch.utils.data.Dataset[Mapping[str, Any]]):
    """Some of the rows, one after the other."""

    def __init__(
        self,
        rows: Sequence[Mapping[str, Any]],
        first: int,
        last: int,
        with_labels: bool = True,
    ) -> None:
        self._rows, self._places, self._with_labels = rows, range(first, last), with_labels

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, at: int) -> Mapping[str, Any]:
        row = self._rows[self._places[at]]
        return row if self._with_labels else {key: row[key] for key in row if key != "labels"}


def _scores(trainer: Trainer, rows: _Part) -> array[int]:
    found: Any = trainer.predict(rows).predictions
    scores = np.asarray(found, dtype="<f4")
    if not np.isfinite(scores).all():
        raise BackendError(
            "the trained model's numbers are not finite",
            "Use another --model: its weights may be damaged.",
        )
    return array("i", scores.tobytes())


def _checkpoint(folder: Path, plan: Mapping[str, Any]) -> Path | None:
    """The last whole checkpoint of this plan; those of another are removed."""
    path = folder / "plan.json"
    written = json.dumps(plan, indent=2)
    every = sorted(folder.glob("checkpoint-*"), key=_step_of)
    if not path.is_file() or path.read_text(encoding="utf-8") != written:
        for one in every:
            shutil.rmtree(one)
        path.write_text(written, encoding="utf-8")
        return None
    whole = [one for one in every if _is_whole(one)]
    for one in every:
        if one not in whole:  # it was killed while it wrote this
            shutil.rmtree(one)
    return whole[-1] if whole else None


def _is_whole(checkpoint: Path) -> bool:
    try:
        return isinstance(json.loads((checkpoint / _STATE).read_text(encoding="utf-8")), dict)
    except (OSError, ValueError):
        return False


def _step_of(checkpoint: Path) -> int:
    number = checkpoint.name.rpartition("-")[2]
    return int(number) if number.isdecimal() else 0


def _rows_sha256(order: TrainOrder) -> str:
    digest = hashlib.sha256(order.labels.tobytes())
    for text in (*order.classes, "", *order.texts, "", *order.images):
        digest.update(len(text).to_bytes(8, "little") + text.encode("utf-8", "surrogatepass"))
    if order.vectors:
        with Path(order.vectors).open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


@contextmanager
def _deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)
