"""What every baseline is, and all that it gets to see."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Labels: TypeAlias = NDArray[np.int64]
Content: TypeAlias = NDArray[Any]
"""Rows: of vectors float (n, d), of texts objects (n,)."""


@dataclass(frozen=True, slots=True, eq=False)
class Shown:
    """The very numbers, or texts, that one voter's prompts held.

    `examples` (n rows) with their `labels` int64 (n,), and the `queries` (Q rows).
    """

    examples: Content
    labels: Labels
    queries: Content


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """The queries to classify, and what may be learnt from. The classes of the queries are not
    here, so that no baseline can see them.

    `X_train` with `y_train` int64 (n,), of at least two classes out of `n_classes`; `X_queries`, at
    least one. `shown` has what each voter showed, of those that showed examples. `seed` is for what
    a baseline draws.
    """

    X_train: Content
    y_train: Labels
    X_queries: Content
    n_classes: int
    shown: Sequence[Shown]
    seed: int


@dataclass(frozen=True, slots=True)
class BaselineKind:
    """A baseline: the name that it is shown by, and what it makes of a task.

    `predict` fits and gives the class of each query (Q,), `None` where it does not apply.
    """

    name: str
    predict: Callable[[Task], Labels | None]
