"""How a figure grows with a length: least squares, with what they leave open."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

LEAST_POINTS = 3
"""With fewer, nothing is left to say how far a law may be wrong."""
_ROUNDS = 5  # of weighting by what the round before said

Numbers = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Interval:
    """A value with its 95 % interval."""

    value: float
    low: float
    high: float


def slope(x: Sequence[float], y: Sequence[float]) -> Interval | None:
    """Of the line through the points; `None` with fewer than `LEAST_POINTS`, or at one x."""
    if len(x) < LEAST_POINTS or len(set(x)) < 2:
        return None
    at = np.asarray(x, dtype=np.float64)
    fitted = _fitted(np.column_stack([np.ones(len(at)), at]), np.asarray(y, dtype=np.float64))
    return _parameter(fitted, 1)


@dataclass(frozen=True, slots=True)
class Growth:
    """seconds = a n + b n², for a prompt of n tokens: each token takes a by itself, and some more
    for each token before it.

    What disturbs a machine takes a share of the time, not so many seconds. So each point is
    weighted by 1 / (its time as fitted)².
    """

    linear: Interval
    quadratic: Interval
    fitted: Any
    mean: float

    @staticmethod
    def of(tokens: Sequence[float], seconds: Sequence[float]) -> Growth | None:
        """`None` with fewer than `LEAST_POINTS` prompts, or where all are of one length."""
        if len(tokens) < LEAST_POINTS or len(set(tokens)) < 2:
            return None
        n, took = np.asarray(tokens, dtype=np.float64), np.asarray(seconds, dtype=np.float64)
        expected = n
        for _ in range(_ROUNDS):
            fitted = _fitted(_terms(n), took, 1 / expected**2)
            expected = np.maximum(fitted.fittedvalues, n * 1e-9)
        return Growth(
            linear=_parameter(fitted, 0),
            quadratic=_parameter(fitted, 1),
            fitted=fitted,
            mean=float((took / n).mean()),
        )

    def seconds(self, tokens: float) -> Interval:
        """Of one prompt more. A longer one never takes less a token: where noise says so, the mean
        is taken instead, and the interval stays as wide."""
        terms = _terms(np.array([tokens], dtype=np.float64))
        said = float(self.fitted.predict(terms)[0])
        value = max(said, self.mean * tokens) if self.quadratic.value < 0 else said
        found = self.fitted.get_prediction(terms, weights=np.array([1 / value**2]))
        low, high = map(float, found.conf_int(obs=True)[0])
        return Interval(value, max(low + value - said, 0.0), high + value - said)


def _terms(n: Numbers) -> Numbers:
    return np.column_stack([n, n**2])


def _fitted(terms: Numbers, y: Numbers, weights: Numbers | float = 1.0) -> Any:
    from statsmodels.regression.linear_model import WLS

    return WLS(y, terms, weights=weights).fit()


def _parameter(fitted: Any, place: int) -> Interval:
    low, high = fitted.conf_int()[place]
    return Interval(float(fitted.params[place]), float(low), float(high))
