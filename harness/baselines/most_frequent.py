"""The sanity check: the class that training has most of, whatever the query."""

from __future__ import annotations

import numpy as np

from harness.baselines.kind import BaselineKind, Labels, Task


def _predict(task: Task) -> Labels:
    """The first class in order where several are as frequent."""
    most = np.bincount(task.y_train, minlength=task.n_classes).argmax()
    return np.full(len(task.X_queries), most, dtype=np.int64)


BASELINE = BaselineKind("the most frequent class", _predict)
