"""One classifier for each voter, fitted to what its prompts showed, and their vote."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.baselines.kind import Content, Labels, Prediction, Shown, Task


def voted(task: Task, fit: Callable[[Content, Labels], Any]) -> Prediction | None:
    """The verdict by mean predicted log-probability.

    A voter that showed nothing, examples of one class only, or what `fit` gives `None` for, is left
    out; `None` without any.
    """
    usable = [one for one in task.shown if one.examples.size and len(np.unique(one.labels)) > 1]
    models = [(one, fit(one.examples, one.labels)) for one in usable]
    logprobs = [_logprobs(model, one, task.n_classes) for one, model in models if model is not None]
    if not logprobs:
        return None
    return Prediction(np.asarray(np.mean(logprobs, axis=0).argmax(axis=-1), dtype=np.int64))


def _logprobs(model: Any, shown: Shown, n_classes: int) -> NDArray[np.float64]:
    """Predicted log-probabilities (Q, C) of one voter's classifier.

    A class that the voter never showed gets the share of one more example, 1 / (n + 1): a
    probability of 0 would let one voter rule it out for all.
    """
    logprobs = np.full((len(shown.queries), n_classes), -np.log(len(shown.labels) + 1))
    # scikit-learn has columns only for the classes that it was fitted to.
    logprobs[:, model.classes_] = model.predict_log_proba(shown.queries)
    return logprobs
