"""A linear probe: whether a plane tells the classes apart, with the penalty chosen within train."""

from __future__ import annotations

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from harness.baselines.kind import Prediction, Task
from harness.baselines.logistic import ITERATIONS, without_convergence_warning
from harness.errors import DataError

_STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""Of `C`, the inverse of the penalty; scikit-learn's default is 1."""
_FOLDS = 5


def predict(task: Task) -> Prediction:
    """Raises `DataError` where a class has one training row only: no fold can be tested on it."""
    folds = min(_FOLDS, int(np.unique_counts(task.y_train).counts.min()))
    if folds < 2:
        raise DataError(
            "probe: a class has one training row only, and cross-validation takes two",
            remedy="Give more rows of that class, or fit logistic.",
        )
    search = GridSearchCV(
        make_pipeline(StandardScaler(), LogisticRegression(max_iter=ITERATIONS)),
        {"logisticregression__C": list(_STRENGTHS)},
        cv=StratifiedKFold(folds, shuffle=True, random_state=task.seed),
    )
    # Each fit is small: threads that wait for one another take more than they save.
    with without_convergence_warning(), threadpool_limits(1):
        search.fit(task.X_train.astype(np.float64), task.y_train)
    labels = np.asarray(search.predict(task.X_queries.astype(np.float64)), dtype=np.int64)
    strength = float(search.best_params_["logisticregression__C"])
    return Prediction(labels, {"C": strength, "folds": folds})
