"""What every baseline is, and all that it gets to see."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Labels: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class ShownNumbers:
    """The very numbers that one voter's prompts held.

    `examples` float64 (n, k) with their `labels` int64 (n,), and the `queries` float64 (Q, k).
    """

    examples: NDArray[np.float64]
    labels: Labels
    queries: NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """The queries to classify, and what may be learnt from. The classes of the queries are not
    here, so that no baseline can see them.

    `X_train` float32 (n, d) with `y_train` int64 (n,), of at least two classes out of `n_classes`;
    `X_queries` float32 (Q, d), Q >= 1. `shown` has the numbers of each voter that showed examples.
    `seed` is for what a baseline draws.
    """

    X_train: NDArray[np.float32]
    y_train: Labels
    X_queries: NDArray[np.float32]
    n_classes: int
    shown: Sequence[ShownNumbers]
    seed: int


@dataclass(frozen=True, slots=True)
class BaselineKind:
    """A baseline: the name that it is shown by, and what it makes of a task.

    `predict` fits and gives the class of each query (Q,), `None` where it does not apply.
    """

    name: str
    predict: Callable[[Task], Labels | None]
