"""A linear probe: whether a plane tells the classes apart, with the penalty chosen within train."""

from __future__ import annotations

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from harness.baselines.kind import Prediction, Task
from harness.baselines.logistic import ITERATIONS, without_convergence_warning
from harness.baselines.random_forest import JOBS

_STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""Of `C`, the inverse of the penalty; scikit-learn's default is 1."""
_FOLDS = 5


def predict(task: Task) -> Prediction | None:
    """`None` where a class has one training row only, which no fold can be tested on."""
    folds = min(_FOLDS, int(np.unique_counts(task.y_train).counts.min()))
    if folds < 2:
        return None
    search = GridSearchCV(
        make_pipeline(StandardScaler(), LogisticRegression(max_iter=ITERATIONS)),
        {"logisticregression__C": list(_STRENGTHS)},
        cv=StratifiedKFold(folds, shuffle=True, random_state=task.seed),
        n_jobs=JOBS,
    )
    with without_convergence_warning():
        search.fit(task.X_train.astype(np.float64), task.y_train)
    labels = np.asarray(search.predict(task.X_queries.astype(np.float64)), dtype=np.int64)
    strength = float(search.best_params_["logisticregression__C"])
    return Prediction(labels, {"C": strength, "folds": folds})
