"""The stand-in for CLIP where there are no weights of it: vectors and label sentences, projected
into one space."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.baselines.encoder import validation_accuracy
from harness.baselines.kind import Prediction, Task
from harness.baselines.pairs import pair_facts
from harness.baselines.training import Rows, hold_out, stacked, train
from harness.errors import UsageError
from harness.workload.dataset import kind_of, one_line


def check_options(options: Mapping[str, Any]) -> None:
    if options.get("epochs") == 0:
        raise UsageError(
            "--epochs 0: projections that were never trained only guess",
            remedy="Leave it out, or give 1 or more.",
        )


def predict(task: Task) -> Prediction:
    split = hold_out(task.y_train, task.seed)
    is_text = kind_of(task.X_train) == "text"
    X = stacked(task, split)
    rows = Rows(texts=[one_line(text) for text in X]) if is_text else Rows(vectors=X)
    found = train(task, "two-towers", split, rows, sentences(task, "text" if is_text else "photo"))
    return found.prediction(
        {
            "label sentence": f"a {'text' if is_text else 'photo'} that is ...",
            **validation_accuracy(found.validation, task, split),
            **pair_facts(found.validation, task.y_train[split.validated], task.seed),
        }
    )


def sentences(task: Task, what: str) -> list[str]:
    return [f"a {what} that is {one_line(label)}" for label in task.classes]
