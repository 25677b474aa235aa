"""What lies near: the classes of the nearest training examples."""

from __future__ import annotations

import numpy as np
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from harness.baselines.kind import Prediction, Task
from harness.baselines.random_forest import JOBS

_NEIGHBOURS = 15


def predict(task: Task) -> Prediction:
    """By the votes of the nearest, over standardised features; fewer where there are fewer rows."""
    neighbours = min(_NEIGHBOURS, len(task.X_train))
    # Distances are sums over features, so features have to be on one scale.
    model = make_pipeline(
        StandardScaler(), KNeighborsClassifier(n_neighbors=neighbours, n_jobs=JOBS)
    )
    model.fit(task.X_train.astype(np.float64), task.y_train)
    labels = np.asarray(model.predict(task.X_queries.astype(np.float64)), dtype=np.int64)
    return Prediction(labels, {"neighbours": neighbours})
