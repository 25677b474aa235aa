"""Baselines over the queries of a run, inside the run or alone."""

from __future__ import annotations

import time
from collections.abc import Sequence

from harness.baselines.kind import BaselineKind, Labels, Shown, Task
from harness.baselines.registry import kinds_in_runs
from harness.stats.intervals import wilson
from harness.summary import Baseline
from harness.workload.dataset import Dataset


def run_baselines(
    dataset: Dataset, query_rows: Sequence[int], shown: Sequence[Shown], seed: int
) -> list[Baseline]:
    """Each baseline of a run that applies, with a prediction for each of the `query_rows` of the
    test split. They learn from the train split, or from what the voters showed."""
    task, truth = make_task(dataset, query_rows, seed, shown)
    fitted = [fit_baseline(kind, task, truth) for kind in kinds_in_runs(dataset.kind)]
    return [one for one in fitted if one is not None]


def make_task(
    dataset: Dataset, query_rows: Sequence[int], seed: int, shown: Sequence[Shown] = ()
) -> tuple[Task, Labels]:
    """What baselines get to see of these rows of the test split, and the rows' classes."""
    # numpy reads a list as rows, and a tuple as one index with several axes.
    rows = list(query_rows)
    task = Task(
        X_train=dataset.X_train,
        y_train=dataset.y_train,
        X_queries=dataset.X_test[rows],
        classes=dataset.classes,
        shown=shown,
        seed=seed,
        images_train=dataset.images_train,
        images_queries=[dataset.images_test[row] for row in rows] if dataset.images_test else (),
    )
    return task, dataset.y_test[rows]


def fit_baseline(kind: BaselineKind, task: Task, truth: Labels) -> Baseline | None:
    """`None` where it does not apply. The estimate has a Wilson interval; `seconds` are the wall
    time of fitting and predicting together."""
    predict = kind.load()
    began = time.perf_counter()
    found = predict(task)
    seconds = time.perf_counter() - began
    if found is None:
        return None
    predictions: list[int] = found.labels.tolist()
    return Baseline(
        name=kind.title,
        estimate=wilson(int((found.labels == truth).sum()), len(truth)),
        seconds=seconds,
        predictions=predictions,
        kind=kind.name,
        peak_rss_mib=found.peak_rss_mib,
        peak_gpu_mib=found.peak_gpu_mib,
        facts=dict(found.facts),
    )
