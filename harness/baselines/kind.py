"""What every baseline is, and all that it gets to see."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from harness.summary import Fact
from harness.workload.dataset import Kind

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


def _say_nothing(text: str) -> None:
    del text


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """The queries to classify, and what may be learnt from. The classes of the queries are not
    here, so that no baseline can see them.

    `X_train` with `y_train` int64 (n,), of at least two classes out of `classes`, which are in the
    order of their numbers; `X_queries`, at least one. `shown` has what each voter showed, of those
    that showed examples. `seed` is for what a baseline draws. `images_*` name the image that each
    row was made of, as in `Dataset`: for whoever opens it, as these names hold the classes.

    `options` are the fields of the `BaselineSpec` that the kind takes, by name. `say` shows what is
    going on in a few words ("epoch 2 of 5"). `folder` is for checkpoints, and need not exist: the
    same whenever the same is wanted of the same data, removed once the result is stored, and
    `None` inside a run of engines.
    """

    X_train: Content
    y_train: Labels
    X_queries: Content
    classes: Sequence[str]
    shown: Sequence[Shown]
    seed: int
    options: Mapping[str, Any] = field(default_factory=dict)
    say: Callable[[str], None] = _say_nothing
    folder: Path | None = None
    images_train: Sequence[str] = ()
    images_queries: Sequence[str] = ()

    @property
    def n_classes(self) -> int:
        return len(self.classes)


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """The class of each query (Q,), and the `facts` that go into `harness.summary.Baseline`.

    Peaks are of a process of its own; without them, those of the harness are taken.
    """

    labels: Labels
    facts: Mapping[str, Fact] = field(default_factory=dict)
    peak_rss_mib: float | None = None
    peak_gpu_mib: float | None = None


Predict: TypeAlias = Callable[[Task], Prediction | None]
"""Fits and predicts; `None` where it does not apply, such as texts without a word. Raises
`HarnessError` where it cannot be done."""


@dataclass(frozen=True, slots=True)
class BaselineKind:
    """A baseline: its name on the command line, the title that it is shown by, the kinds of data
    that it works on, and where its `Predict` is, as `MODULE:NAME` in this package.

    `in_runs`: every run of engines fits it, too. `needs_voters`: it is fitted to what they showed,
    so that there is none without a run. `takes` are the fields of a `BaselineSpec` that are for it,
    beside those of the data, and `check` is a function in this package that raises `UsageError`
    where these cannot be, before anything is fitted.
    """

    name: str
    title: str
    data: tuple[Kind, ...]
    where: str
    in_runs: bool = False
    needs_voters: bool = False
    takes: tuple[str, ...] = ()
    check: str = ""

    def load(self) -> Predict:
        return cast(Predict, _found(self.where))

    def check_options(self, options: Mapping[str, Any]) -> None:
        """Raises `UsageError`."""
        if self.check:
            _found(self.check)(options)


def _found(where: str) -> Any:
    # Late: these modules import what they fit with, which takes long and is no part of any
    # baseline's time.
    module, name = where.split(":")
    return getattr(import_module(f"harness.baselines.{module}"), name)
