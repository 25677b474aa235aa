"""How a metric went from run to run: records of `harness history`."""

from __future__ import annotations

from typing import Any

from harness.comparison.records import FieldDifference
from harness.metrics import Outcome
from harness.record import Record, Span


class Machine(Record):
    """What makes one machine another than the next; `gpus` are names."""

    cpu: str
    gpus: list[str]
    physical_cores: int | None
    logical_cores: int | None
    usable_cores: int | None


class Point(Record):
    """One run. `name` is the user's for it, if any. `created` is ISO-8601 in UTC; only shares have
    an `interval`. `engine_version` is `None` where no session was opened."""

    run_id: str
    name: str | None = None
    created: str
    value: float
    interval: Span | None
    engine_version: str | None
    git_revision: str | None


class Change(Record):
    """The level of a series is another from the run `after` on; `before` is the run before it.

    `place` is where `after` stands among the points, counted from 0. Levels are medians, up to the
    next change or the end of the series. `change` is level_after - level_before for a share, their
    ratio for anything else (`None` where that has no meaning). `p_adjusted` is that of
    `harness.stats.change_points`. `differing` is all that is stored and is not the same in the
    two runs.
    """

    place: int
    before: str
    after: str
    level_before: float
    level_after: float
    change: float | None
    p_adjusted: float
    outcome: Outcome
    differing: list[FieldDifference]


class Series(Record):
    """The runs of one entry, backend and model that had the same data and the same prompts on
    one machine, in time's order.

    `entry` is its name without the model. `spec` are the fields of the spec that decide prompts and
    replies, as in the first run: the path of the data, or the column that was named, may be another
    in later ones. `data_sha256` is `None` in runs stored before the identity of data was: their
    data are those of one path. `left_out` counts the runs that the metric does not apply to.
    """

    entry: str
    backend: str
    model: str
    is_mock: bool
    data_sha256: str | None
    spec: dict[str, Any]
    machine: Machine
    left_out: int
    points: list[Point]
    changes: list[Change]


class History(Record):
    """What `harness history --json` prints: the series with the newest run first.

    `unreadable` are the ids of runs that cannot be read, such as those of a newer version.
    """

    metric: str
    unit: str
    more_is_better: bool
    unreadable: list[str]
    series: list[Series]
