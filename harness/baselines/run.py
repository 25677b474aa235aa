"""All baselines over the queries of a run, inside the run or alone."""

from __future__ import annotations

import time
from collections.abc import Sequence

from harness.baselines.kind import BaselineKind, Shown, Task
from harness.stats.intervals import wilson
from harness.summary import Baseline
from harness.workload.dataset import Dataset, Kind


def baseline_kinds(data: Kind) -> tuple[BaselineKind, ...]:
    """Every baseline for this kind of data, in the order in which they are shown."""
    # Only here, because these modules import what they fit with, which takes long and is no part
    # of any baseline's time.
    from harness.baselines import logistic, most_frequent, random_forest, tfidf

    of_vectors = (logistic.SAME_NUMBERS, random_forest.BASELINE, logistic.ALL_FEATURES)
    of_texts = (tfidf.SAME_EXAMPLES, tfidf.WORDS, tfidf.CHARACTERS)
    return (*(of_texts if data == "text" else of_vectors), most_frequent.BASELINE)


def run_baselines(
    dataset: Dataset, query_rows: Sequence[int], shown: Sequence[Shown], seed: int
) -> list[Baseline]:
    """Each baseline that applies, with a prediction for each of the `query_rows` of the test split.

    They learn from the train split, or from what the voters showed. Estimates have Wilson
    intervals; `seconds` are the wall time of fitting and predicting together.
    """
    # numpy reads a list as rows, and a tuple as one index with several axes.
    rows = list(query_rows)
    truth = dataset.y_test[rows]
    task = Task(
        X_train=dataset.X_train,
        y_train=dataset.y_train,
        X_queries=dataset.X_test[rows],
        n_classes=len(dataset.classes),
        shown=shown,
        seed=seed,
    )
    baselines: list[Baseline] = []
    for kind in baseline_kinds(dataset.kind):
        began = time.perf_counter()
        predicted = kind.predict(task)
        seconds = time.perf_counter() - began
        if predicted is not None:
            estimate = wilson(int((predicted == truth).sum()), len(truth))
            predictions: list[int] = predicted.tolist()
            baselines.append(
                Baseline(
                    name=kind.name, estimate=estimate, seconds=seconds, predictions=predictions
                )
            )
    return baselines
