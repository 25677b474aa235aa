"""What the embeddings hold, by a random forest on all of their numbers."""

from __future__ import annotations

import numpy as np
from sklearn.ensemble import RandomForestClassifier

from harness.baselines.kind import BaselineKind, Labels, Task

_TREES = 100  # scikit-learn's default
_JOBS = 2


def _predict(task: Task) -> Labels:
    forest = RandomForestClassifier(n_estimators=_TREES, n_jobs=_JOBS, random_state=task.seed)
    forest.fit(task.X_train, task.y_train)
    return np.asarray(forest.predict(task.X_queries), dtype=np.int64)


BASELINE = BaselineKind("random forest, all features", _predict)
