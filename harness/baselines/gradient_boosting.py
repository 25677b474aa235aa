"""What many small trees find, each fitted to what those before it left."""

from __future__ import annotations

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier
from threadpoolctl import threadpool_limits

from harness.baselines.kind import Prediction, Task


def predict(task: Task) -> Prediction:
    """With scikit-learn's defaults, on one processor."""
    # Of more than 10,000 rows it holds out some of each class, to stop early by them.
    can_hold_out = bool(np.unique_counts(task.y_train).counts.min() > 1)
    model = HistGradientBoostingClassifier(
        random_state=task.seed, early_stopping="auto" if can_hold_out else False
    )
    # Its threads wait for one another by spinning: beside other processes, two took 85 s where one
    # takes 5 s.
    with threadpool_limits(1):
        model.fit(task.X_train, task.y_train)
    labels = np.asarray(model.predict(task.X_queries), dtype=np.int64)
    return Prediction(labels, {"trees": int(model.n_iter_)})
