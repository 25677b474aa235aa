"""Pair accuracy within batches, which is no label accuracy.

An image-text model is often judged so: in a batch, each image shall find its own text among the
texts of all. Where several have the same label, their texts are the same text, and nothing
marks one of them: with two labels, a perfect classifier reaches 0.47 in batches of 4 and 0.05 in
batches of 40. So pair accuracy means nothing without that ceiling beside it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from harness.baselines.kind import Labels
from harness.summary import Fact

BATCH = 4
"""Of the figures that are reported: small, so that the ceiling is far from 0."""


def pair_ceiling(shares: NDArray[np.float64], batch: int) -> float:
    """What a perfect classifier reaches on average in batches of `batch` rows, drawn where class i
    has the share `shares[i]`: in each batch, one row of each class that occurs finds its own
    text."""
    return float((1 - (1 - shares) ** batch).sum() / batch)


def pair_accuracy(scores: NDArray[np.float32], y: Labels, batch: int, seed: int) -> float | None:
    """The share of rows whose own text scores highest in their batch, where equal texts share the
    point. `scores` (n, classes) are of each row with each class's text; batches are drawn at
    random. `None` where there is no whole batch."""
    whole = len(y) // batch * batch
    if not whole:
        return None
    batches = np.random.default_rng(seed).permutation(len(y))[:whole].reshape(-1, batch)
    points = [_points(scores[rows], y[rows]) for rows in batches]
    return float(np.mean(points))


def _points(scores: NDArray[np.float32], y: Labels) -> float:
    pairs = scores[:, y]  # row i with the text of row j
    is_best = pairs == pairs.max(axis=1, keepdims=True)
    return float(np.mean(is_best.diagonal() / is_best.sum(axis=1)))


def pair_facts(scores: NDArray[np.float32], y: Labels, seed: int) -> dict[str, Fact]:
    """Pair accuracy and its ceiling, of rows whose labels are known; nothing of too few."""
    found = pair_accuracy(scores, y, BATCH, seed)
    if found is None:
        return {}
    shares = np.unique_counts(y).counts / len(y)
    return {
        f"pair accuracy in batches of {BATCH}": round(found, 4),
        "pair accuracy ceiling": round(pair_ceiling(shares, BATCH), 4),
    }
