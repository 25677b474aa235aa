"""How a figure grows with a length: least squares, with what they leave open."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

_CONFIDENCE = 0.95
LEAST_POINTS = 3
"""With fewer, nothing is left to say how far a line may be wrong."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A value with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Line:
    """y = `intercept` + `slope` x, by least squares of `points` points. `spread` is the standard
    deviation around it, `mean` and `squares` are those of x."""

    intercept: Interval
    slope: Interval
    points: int
    spread: float
    mean: float
    squares: float

    @staticmethod
    def through(x: Sequence[float], y: Sequence[float]) -> Line | None:
        """`None` with fewer than `LEAST_POINTS` points, or where all are at one x."""
        if len(x) < LEAST_POINTS or len(set(x)) < 2:
            return None
        found = stats.linregress(x, y)
        at, seen = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
        left = seen - found.intercept - found.slope * at
        often = _often(len(at) - 2)
        mean = float(at.mean())
        return Line(
            intercept=_around(float(found.intercept), often * float(found.intercept_stderr)),
            slope=_around(float(found.slope), often * float(found.stderr)),
            points=len(at),
            spread=math.sqrt(float(left @ left) / (len(at) - 2)),
            mean=mean,
            squares=float(((at - mean) ** 2).sum()),
        )

    def new(self, x: float) -> Interval:
        """Where one more point at x will be."""
        far = 1 + 1 / self.points + (x - self.mean) ** 2 / self.squares
        wide = _often(self.points - 2) * self.spread * math.sqrt(far)
        return _around(self.intercept.value + self.slope.value * x, wide)


@dataclass(frozen=True, slots=True)
class Growth:
    """seconds = a n + b n², for a prompt of n tokens: each token takes a by itself, and some more
    for each token before it.

    Fitted as seconds a token over n, which is a line. What disturbs a machine is rather a share of
    the time than so many seconds, so this gives short and long prompts about the same weight.
    """

    line: Line

    @staticmethod
    def of(tokens: Sequence[float], seconds: Sequence[float]) -> Growth | None:
        each = [took / n for took, n in zip(seconds, tokens, strict=True)]
        line = Line.through(tokens, each)
        return Growth(line) if line else None

    @property
    def linear(self) -> Interval:
        return self.line.intercept

    @property
    def quadratic(self) -> Interval:
        return self.line.slope

    def seconds(self, tokens: float) -> Interval:
        """Of one prompt more. A longer one never takes less a token: where noise says so, the mean
        is taken instead, and the interval stays as wide."""
        each = self.line.new(tokens)
        least = self.line.intercept.value + self.line.slope.value * self.line.mean
        lift = max(least - each.value, 0.0) if self.line.slope.value < 0 else 0.0
        return Interval(
            tokens * (each.value + lift),
            tokens * max(each.low + lift, 0.0),
            tokens * (each.high + lift),
        )


def _often(freedom: int) -> float:
    """So many standard errors to both sides."""
    return float(stats.t.ppf((1 + _CONFIDENCE) / 2, freedom))


def _around(value: float, wide: float) -> Interval:
    return Interval(value, value - wide, value + wide)
