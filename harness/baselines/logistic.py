"""Logistic regression: on all numbers of the embeddings, and on those that the model was shown.

The first says what the embeddings hold, the second what the prompts hold.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from harness.baselines.kind import BaselineKind, Labels, ShownNumbers, Task

_ITERATIONS = 1000  # well over what lbfgs needs on standardised numbers


def _fit(X: NDArray[np.floating[Any]], y: Labels) -> Any:
    """Standardised features, then logistic regression with scikit-learn's default penalty."""
    # The penalty is the same for all weights, so features have to be on one scale.
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=_ITERATIONS))
    with warnings.catch_warnings():
        # A baseline stopped short of its optimum is still one; there is nothing for a user to fix.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(X.astype(np.float64), y)


def _predict_by_all_features(task: Task) -> Labels:
    model = _fit(task.X_train, task.y_train)
    return np.asarray(model.predict(task.X_queries), dtype=np.int64)


def _predict_by_same_numbers(task: Task) -> Labels | None:
    """The verdict of one regression for each voter, by mean predicted log-probability.

    A voter that showed no numbers, or those of one class only, is left out; `None` without any.
    """
    usable = [one for one in task.shown if one.examples.size and len(np.unique(one.labels)) > 1]
    if not usable:
        return None
    logprobs = np.mean([_logprobs(one, task.n_classes) for one in usable], axis=0)
    return np.asarray(logprobs.argmax(axis=-1), dtype=np.int64)


def _logprobs(shown: ShownNumbers, n_classes: int) -> NDArray[np.float64]:
    """Predicted log-probabilities (Q, C) of one voter's logistic regression.

    A class that the voter never showed gets the share of one more example, 1 / (n + 1): a
    probability of 0 would let one voter rule it out for all.
    """
    model = _fit(shown.examples, shown.labels)
    logprobs = np.full((len(shown.queries), n_classes), -np.log(len(shown.labels) + 1))
    # scikit-learn has columns only for the classes that it was fitted to.
    logprobs[:, model.classes_] = model.predict_log_proba(shown.queries)
    return logprobs


ALL_FEATURES = BaselineKind("logistic regression, all features", _predict_by_all_features)
SAME_NUMBERS = BaselineKind("logistic regression, same numbers", _predict_by_same_numbers)
