"""From a d-vector to the few numbers that go into the prompt. Fitted on training rows only.

none      every number
top:K     the K numbers of highest random-forest importance, in their old order
pca:K     scores of K principal components
pls:K     scores of K components of partial least squares (PLS) towards the labels
plsda:K   what PLS regression with K components predicts of the labels, which are -1 or 1:
          one number for two classes (higher: the later class), one per class for more
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from harness.errors import UsageError

Floats: TypeAlias = NDArray[np.float64]
_Transform: TypeAlias = Callable[[Floats], Floats]

_FORM = re.compile(r"none|(?P<kind>top|pca|pls|plsda):(?P<count>[1-9][0-9]{0,5})", re.ASCII)


@dataclass(frozen=True, slots=True)
class ReducerSpec:
    """A reducer's form, and its K (0 for `none`)."""

    kind: str
    count: int

    def __str__(self) -> str:
        return f"{self.kind}:{self.count}" if self.count else self.kind


@dataclass(frozen=True, slots=True)
class Reducer:
    """A fitted reducer: X (n, d) of any float type becomes numbers (n, k)."""

    transform: _Transform

    def __call__(self, X: NDArray[np.floating[Any]]) -> Floats:
        return np.asarray(self.transform(X.astype(np.float64)), dtype=np.float64)


def parse_reducer(spec: str) -> ReducerSpec:
    """The parts of a reducer's text. Raises `UsageError`."""
    match = _FORM.fullmatch(spec)
    if match is None:
        raise UsageError(
            f"reducer {spec!r} is not known",
            remedy="Write none, top:K, pca:K, pls:K or plsda:K, with K of 1 or more.",
        )
    return ReducerSpec(match["kind"] or "none", int(match["count"] or 0))


def fit_reducer(
    spec: str, X: NDArray[np.floating[Any]], y: NDArray[np.int64], seed: int
) -> Reducer:
    """Fit to training rows X (n, d) with labels y (n,), at least two of them different.

    Raises `UsageError` where the text is wrong or the data cannot give so many numbers.
    """
    form = parse_reducer(spec)
    rows = X.astype(np.float64)
    if form.kind == "none":
        return Reducer(_unchanged)
    if form.kind == "top":
        return Reducer(_fit_top(form, rows, y, seed))
    return Reducer(_fit_components(form, rows, y, seed))


def _unchanged(X: Floats) -> Floats:
    return X


def _fit_top(form: ReducerSpec, X: Floats, y: NDArray[np.int64], seed: int) -> _Transform:
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.feature_selection import SelectFromModel

    _require(form, X.shape[1])
    forest = RandomForestClassifier(random_state=seed)
    # Without this threshold, features below the mean importance would be left out as well.
    selection = SelectFromModel(forest, max_features=form.count, threshold=-np.inf)
    # Its own `transform` sums up the importances of all trees at each call.
    columns = selection.fit(X, y).get_support(indices=True)
    return lambda X: X[:, columns]


def _fit_components(form: ReducerSpec, X: Floats, y: NDArray[np.int64], seed: int) -> _Transform:
    from sklearn.preprocessing import StandardScaler

    # Components follow the features with the largest variance, so all get the same.
    scaler = StandardScaler().fit(X)
    rows: Floats = scaler.transform(X)
    _require(form, _rank_up_to(form.count, rows, seed))
    model = _fit_pca(form, rows, seed) if form.kind == "pca" else _fit_pls(form, rows, y)
    last: _Transform = model.predict if form.kind == "plsda" else model.transform
    return lambda X: last(scaler.transform(X))


def _rank_up_to(count: int, rows: Floats, seed: int) -> int:
    """The smaller of `count` and the rank of the centred rows (n, d).

    More components than that are fitted to rounding noise, and PLS then predicts nonsense. A random
    projection to `count` columns keeps the rank up to there (Halko, Martinsson and Tropp 2011) and
    costs far less than the singular values of the rows themselves.
    """
    columns = min(count, rows.shape[1])
    directions = np.random.default_rng(seed).standard_normal((rows.shape[1], columns))
    return int(np.linalg.matrix_rank(rows @ directions))


def _fit_pca(form: ReducerSpec, rows: Floats, seed: int) -> Any:
    from sklearn.decomposition import PCA

    return PCA(form.count, random_state=seed).fit(rows)


def _fit_pls(form: ReducerSpec, rows: Floats, y: NDArray[np.int64]) -> Any:
    """Its `transform` gives the scores (n, K), its `predict` the labels (n, 1 or classes)."""
    from sklearn.cross_decomposition import PLSRegression
    from sklearn.preprocessing import LabelBinarizer

    targets = LabelBinarizer(neg_label=-1).fit_transform(y)
    with warnings.catch_warnings(), np.errstate(invalid="raise"):
        # Labels explained in full leave further components at zero, which does no harm.
        warnings.filterwarnings("ignore", "y residual is constant")
        try:
            # `scale=False`: the rows are standardised already, by the scaler that later vectors go
            # through.
            return PLSRegression(form.count, scale=False).fit(rows, targets)
        except FloatingPointError:  # 0/0: what is left of the rows says nothing of the labels
            raise _too_many(form, form.count - 1) from None


def _require(form: ReducerSpec, available: int) -> None:
    if form.count > available:
        raise _too_many(form, available)


def _too_many(form: ReducerSpec, most: int) -> UsageError:
    if not most:  # the rows have rank 0, or no covariance with the labels
        return UsageError(
            f"reducer {form}: the numbers of a voter's training rows are constant, or say nothing "
            "of the labels",
            remedy="Give data whose numbers differ from class to class, or use --reducer none.",
        )
    return UsageError(
        f"reducer {form}: the training rows and features that it is fitted to allow at most {most} "
        "numbers",
        remedy=f"Use --reducer {form.kind}:{most} or --feature-fraction 1, or give more rows.",
    )
