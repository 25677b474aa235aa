"""What classical classifiers reach on the same queries: the yardstick beside the model.

The forest and the logistic regression on all features show what the embeddings hold; the logistic
regression on the very numbers that the model was shown tells what the prompts hold.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.stats.intervals import wilson
from harness.summary import Controls, Estimate

Matrix = NDArray[np.float32] | NDArray[np.float64]
Labels = NDArray[np.int64]

_TREES = 100  # scikit-learn's default
_JOBS = 2
_ITERATIONS = 1000  # well over what lbfgs needs on standardised numbers


@dataclass(frozen=True, slots=True)
class ShownNumbers:
    """The very numbers that one voter's prompts held.

    `examples` float64 (n, k) with their `labels` int64 (n,), and the `queries` float64 (Q, k).
    """

    examples: NDArray[np.float64]
    labels: Labels
    queries: NDArray[np.float64]


def score_controls(
    X_train: Matrix,
    y_train: Labels,
    X_queries: Matrix,
    y_queries: Labels,
    *,
    n_classes: int,
    shown: Sequence[ShownNumbers],
    seed: int,
) -> Controls:
    """The controls, fitted on the whole train split (n, d) or on what was shown, with intervals.

    `X_queries` is (Q, d), Q >= 1; the train split holds at least two classes. `seed` is the
    forest's. The control on shown numbers is null where no voter showed numbers of two classes.
    """
    commonest = np.bincount(y_train, minlength=n_classes).argmax()
    forest = _forest(seed).fit(X_train, y_train)
    logistic = _fit_logistic(X_train, y_train)
    return Controls(
        majority_class=_estimate(np.full(y_queries.shape, commonest), y_queries),
        same_numbers_logistic=_same_numbers(shown, y_queries, n_classes),
        all_features_random_forest=_estimate(forest.predict(X_queries), y_queries),
        all_features_logistic=_estimate(logistic.predict(X_queries), y_queries),
    )


def _estimate(predicted: Labels, truth: Labels) -> Estimate:
    return wilson(int((predicted == truth).sum()), len(truth))


def _forest(seed: int) -> Any:
    from sklearn.ensemble import RandomForestClassifier

    return RandomForestClassifier(n_estimators=_TREES, n_jobs=_JOBS, random_state=seed)


def _fit_logistic(X: Matrix, y: Labels) -> Any:
    """Standardised features, then logistic regression with scikit-learn's default penalty."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=_ITERATIONS))
    with warnings.catch_warnings():
        # a control stopped short of its optimum is still one; nothing for the user to mend
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(X.astype(np.float64), y)


def _same_numbers(
    shown: Sequence[ShownNumbers], y_queries: Labels, n_classes: int
) -> Estimate | None:
    """The verdict of the voters' logistic regressions, by mean predicted log-probability."""
    usable = [voter for voter in shown if voter.examples.size and len(np.unique(voter.labels)) > 1]
    if not usable:
        return None
    logprobs = np.mean([_logprobs(voter, n_classes) for voter in usable], axis=0)
    return _estimate(logprobs.argmax(axis=-1), y_queries)


def _logprobs(voter: ShownNumbers, n_classes: int) -> NDArray[np.float64]:
    """Predicted log-probabilities (Q, C) of one voter's logistic regression.

    A class that the voter never showed gets the share of one more example, 1 / (n + 1): a
    probability of 0 would let one voter rule it out for all.
    """
    model = _fit_logistic(voter.examples, voter.labels)
    logprobs = np.full((len(voter.queries), n_classes), -np.log(len(voter.labels) + 1))
    logprobs[:, model.classes_] = model.predict_log_proba(voter.queries)
    return logprobs
