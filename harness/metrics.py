"""A metric, and how two measurements of it differ: records that everyone uses.

The metrics themselves, with the functions that read them from a stored run, are listed in
`harness.comparison.metrics`: adding one means adding one entry there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from harness.record import Estimate, Record, Span

if TYPE_CHECKING:
    # `harness.summary` imports this module.
    from harness.summary import RunSummary

Kind: TypeAlias = Literal["share", "rate", "time", "per_session", "count"]


class Outcome(StrEnum):
    """What the evidence allows to say of the other side, in the words of every table and file."""

    BETTER = "better"
    WORSE = "worse"
    NO_SIGNIFICANT_DIFFERENCE = "no significant difference"
    TOO_FEW = "too few samples"
    SAME = "the same"  # of what is counted, where nothing is left to chance


@dataclass(frozen=True, slots=True)
class Metric:
    """A figure of one entry of a run.

    `kind` says what its samples are, and so how two sides are compared:

    - "share": each query is a sample between 0 and 1; compared by difference;
    - "rate": tokens over seconds, summed over blocks of batches; compared by ratio;
    - "time": one time for each reply, of which the median counts; compared by ratio;
    - "per_session": one figure for each session of an engine; compared by ratio over sessions;
    - "count": counted, not sampled, so that any difference is one; compared by ratio.

    `value` reads the figure of a summary, an `Estimate` where it has an interval, `None` where
    it does not apply. `samples` reads the samples of a stored entry, as `harness.stats` takes
    them (`harness.comparison.metrics` has the types), and is `None` for "per_session" and "count",
    whose one sample is the value. `in_table`: whether the table of a run shows it.
    """

    name: str
    title: str
    unit: str
    more_is_better: bool
    kind: Kind
    value: Callable[[RunSummary], float | Estimate | None]
    # Of a `StoredEntry`, which lies on a higher floor: its type cannot be named here.
    samples: Callable[[Any], Any] | None = None
    in_table: bool = True

    @property
    def is_share(self) -> bool:
        return self.kind == "share"

    def figure(self, run: RunSummary) -> float | None:
        """The value without its interval."""
        value = self.value(run)
        return value.value if isinstance(value, Estimate) else value

    def interval(self, run: RunSummary) -> Span | None:
        """The interval of the value, `None` where it has none."""
        value = self.value(run)
        return Span(low=value.low, high=value.high) if isinstance(value, Estimate) else None


class Difference(Record):
    """One metric, first and other.

    `change` is other - first for a share, other / first for anything else; its interval is `None`
    where there are too few samples for one, or where nothing was sampled. `test` names where
    `p_value` comes from; `p_adjusted` is Holm's over all pairs of sides that are compared by this
    metric. `samples`: how many queries, blocks of batches, or sessions each side gave.
    """

    metric: str
    kind: Literal["difference", "ratio"]
    paired: bool
    first: float
    other: float
    change: float
    interval: Span | None
    test: str
    p_value: float | None
    p_adjusted: float | None
    samples: tuple[int, int]
    outcome: Outcome
