"""What the embeddings hold, by a random forest on all of their numbers."""

from __future__ import annotations

import numpy as np
from sklearn.ensemble import RandomForestClassifier

from harness.baselines.kind import Prediction, Task

_TREES = 100  # scikit-learn's default
JOBS = 2


def predict(task: Task) -> Prediction:
    forest = RandomForestClassifier(n_estimators=_TREES, n_jobs=JOBS, random_state=task.seed)
    forest.fit(task.X_train, task.y_train)
    return Prediction(np.asarray(forest.predict(task.X_queries), dtype=np.int64))
