"""How long something was busy: the union of spans of time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def busy_seconds(began: NDArray[np.float64], ended: NDArray[np.float64]) -> NDArray[np.float64]:
    """What each span (n,) adds to the union of those that began before it, in the order given.

    The sum is the union of all spans, which is how long overlapping batches had an engine busy.
    """
    order = np.argsort(began, kind="stable")
    # Not the end of the span before: one that began earlier may last longer than that.
    reached = np.maximum.accumulate(ended[order])
    added = np.empty(len(began))
    added[order] = ended[order] - began[order]
    if len(order) > 1:
        later, before = order[1:], reached[:-1]
        added[later] = np.maximum(ended[later] - np.maximum(began[later], before), 0.0)
    return added
