"""What every stored or printed record is made of."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Record(BaseModel):
    """An immutable part of an answer; an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Estimate(Record):
    """A share between 0 and 1 with its 95 % interval."""

    value: float
    low: float
    high: float


class Span(Record):
    """An interval, of 95 % where nothing else is said."""

    low: float
    high: float


class Measured(Record):
    """A figure with its 95 % interval. Both ends are `None` where there are too few samples, and
    `high` alone where these do not show how far up the figure may be."""

    value: float
    low: float | None = None
    high: float | None = None
