"""Logistic regression: on all numbers of the vectors, and on those that the model was shown.

The first says what the vectors hold, the second what the prompts hold.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from harness.baselines.kind import Content, Labels, Prediction, Task
from harness.baselines.voted import voted

ITERATIONS = 1000
"""Well over what lbfgs needs on standardised numbers."""


@contextmanager
def without_convergence_warning() -> Iterator[None]:
    # A baseline stopped short of its optimum is still one; there is nothing for a user to fix.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        yield


def _fit(X: Content, y: Labels) -> Any:
    """Standardised features, then logistic regression with scikit-learn's default penalty."""
    # The penalty is the same for all weights, so features have to be on one scale.
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=ITERATIONS))
    with without_convergence_warning():
        return model.fit(X.astype(np.float64), y)


def predict_by_all_features(task: Task) -> Prediction:
    model = _fit(task.X_train, task.y_train)
    return Prediction(np.asarray(model.predict(task.X_queries), dtype=np.int64))


def predict_by_same_numbers(task: Task) -> Prediction | None:
    return voted(task, _fit)
