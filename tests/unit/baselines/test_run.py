"""Baselines over the queries of a run: what they reach, and that they see nothing else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from harness.baselines import Shown, run_baselines
from harness.baselines.kind import Labels
from harness.baselines.registry import kinds_in_runs
from harness.baselines.run import make_task
from harness.stats.intervals import wilson
from harness.summary import Baseline
from harness.workload.dataset import make_dataset

CLASSES = ("A", "B", "C")
NAMES = [
    "logistic regression, same numbers",
    "random forest, all features",
    "logistic regression, all features",
    "the most frequent class",
]
SEED = 7


def overlapping(n: int, seed: int) -> tuple[NDArray[np.float32], Labels]:
    """Points (n, 3) around one centre a class, which overlap; class 0 is the most frequent."""
    rng = np.random.default_rng(seed)
    y = np.where(rng.random(n) < 0.3, 0, rng.integers(0, 3, n))
    X = rng.normal(0, 1.0, (n, 3))
    X[np.arange(n), y] += 1.5
    return X.astype(np.float32), y


DATA = make_dataset("toy", CLASSES, overlapping(80, 0), overlapping(60, 1))
ROWS = range(60)


def shown(rows: range = ROWS, seeds: tuple[int, ...] = (2, 3)) -> list[Shown]:
    """Two voters who were shown 20 examples each, put to these queries."""
    examples = [overlapping(20, seed) for seed in seeds]
    queries = DATA.X_test[list(rows)].astype(np.float64)
    return [Shown(X.astype(np.float64), y, queries) for X, y in examples]


@pytest.fixture(scope="module")
def baselines() -> list[Baseline]:
    return run_baselines(DATA, ROWS, shown(), SEED)


def test_each_is_there_with_its_name_time_and_predictions(baselines: list[Baseline]) -> None:
    assert (
        [one.name for one in baselines]
        == NAMES
        == [kind.title for kind in kinds_in_runs("vectors")]
    )
    for one in baselines:
        assert one.seconds is not None
        assert one.seconds > 0
        right = int((np.array(one.predictions) == DATA.y_test).sum())
        assert one.estimate == wilson(right, 60)


def test_what_they_reach_on_fixed_data(baselines: list[Baseline]) -> None:
    """The figures of the first version, in which each was a field of the summary."""
    assert [round(60 * one.estimate.value) for one in baselines] == [37, 40, 40, 29]


def test_a_prediction_is_the_same_in_a_run_and_alone(baselines: list[Baseline]) -> None:
    """Whichever queries stand beside it, and whether or not anything was shown for it."""
    again = run_baselines(DATA, ROWS, shown(), SEED)
    part = range(40, 10, -3)
    alone = run_baselines(DATA, part, shown(part), SEED)
    for one, same, other in zip(baselines, again, alone, strict=True):
        assert one.model_copy(update={"seconds": None}) == same.model_copy(update={"seconds": None})
        assert one.predictions is not None
        assert other.predictions == [one.predictions[row] for row in part]
    without = run_baselines(DATA, ROWS, [], SEED)
    assert [one.name for one in without] == NAMES[1:]
    assert [one.predictions for one in without] == [one.predictions for one in baselines[1:]]


def test_the_classes_of_the_queries_decide_the_estimate_only(baselines: list[Baseline]) -> None:
    other = replace(DATA, y_test=(DATA.y_test + 1) % 3)
    for one, changed in zip(baselines, run_baselines(other, ROWS, shown(), SEED), strict=True):
        assert one.predictions == changed.predictions
        assert one.estimate != changed.estimate


def test_the_most_frequent_class_is_that_of_training_and_the_first_on_ties() -> None:
    X, _ = overlapping(4, 0)
    train = X, np.array([1, 0, 1, 0])
    data = make_dataset("toy", CLASSES[:2], train, (X[:3], np.array([1, 1, 0])))
    *_, last = run_baselines(data, range(3), [], SEED)
    assert last.predictions == [0, 0, 0]
    assert last.estimate == wilson(1, 3)


def test_a_task_names_the_image_of_each_row_where_the_data_do() -> None:
    names = [f"test/{row}" for row in range(len(DATA.y_test))]
    data = replace(DATA, images_train=["train/0"], images_test=names)
    task, truth = make_task(data, [5, 2], SEED)
    assert truth.tolist() == DATA.y_test[[5, 2]].tolist()
    assert (task.images_train, task.images_queries) == (["train/0"], ["test/5", "test/2"])
    assert make_task(DATA, [5, 2], SEED)[0].images_queries == ()
