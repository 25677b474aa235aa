"""A text encoder, fine-tuned on what prompts show: texts, or vectors as a few written numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.baselines.kind import Prediction, Task
from harness.baselines.training import Rows, Split, hold_out, stacked, train
from harness.errors import UsageError
from harness.summary import Fact
from harness.workload.dataset import kind_of, one_line
from harness.workload.encoding import fit_encoding
from harness.workload.reducers import fit_reducer, parse_reducer

REDUCER, ENCODING = "pls:4", "int:100"


def check_options(options: Mapping[str, Any]) -> None:
    if options.get("epochs") == 0:
        raise UsageError(
            "--epochs 0: an encoder whose head was never trained only guesses",
            remedy="Leave it out, or give 1 or more.",
        )


def predict(task: Task) -> Prediction:
    split = hold_out(task.y_train, task.seed)
    texts, facts = as_texts(task, split)
    found = train(task, "classifier", split, Rows(texts=texts), task.classes)
    return found.prediction({**facts, **validation_accuracy(found.validation, task, split)})


def as_texts(task: Task, split: Split) -> tuple[Sequence[str], dict[str, Fact]]:
    """The rows as a prompt shows them, and how they are written.

    The reducer is fitted to the rows that are learnt from, so the validation rows look as a query
    does.
    """
    reducer, encoding = (task.options.get(name) for name in ("reducer", "encoding"))
    if kind_of(task.X_train) == "text":
        if reducer or encoding:
            raise UsageError(
                f"--{'reducer' if reducer else 'encoding'}: this is for vectors, and the data "
                "holds texts",
                remedy="Leave it out.",
            )
        return [one_line(text) for text in stacked(task, split)], {}
    X, y = task.X_train[split.fitted], task.y_train[split.fitted]
    few = X.shape[1] < parse_reducer(REDUCER).count
    reducer, encoding = reducer or ("none" if few else REDUCER), encoding or ENCODING
    parse_reducer(reducer)  # its error has a remedy that is right here
    try:
        fitted = fit_reducer(reducer, X, y, task.seed)
    except UsageError as error:  # its remedy is for voters
        raise UsageError(
            str(error), remedy="Use a --reducer of fewer numbers, or none; or give more rows."
        ) from error
    written = fit_encoding(encoding, fitted(X))
    words = written.encode(fitted(stacked(task, split)))
    return [" ".join(row) for row in words], {"reducer": reducer, "encoding": encoding}


def validation_accuracy(scores: NDArray[np.float32], task: Task, split: Split) -> dict[str, Fact]:
    right = scores.argmax(axis=1) == task.y_train[split.validated]
    return {"validation accuracy": round(float(right.mean()), 4), "validation rows": len(right)}
