"""Logistic regression on what was shown: on data whose answer is known, and on awkward data."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from harness.baselines import Shown, logistic
from harness.baselines.kind import Labels, Task

Matrix = NDArray[np.float64]


def separable(n: int, seed: int, n_classes: int = 2) -> tuple[Matrix, Labels]:
    """Points (n, 3) around one centre a class, far apart."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, n_classes, n)
    X = rng.normal(0, 0.1, (n, 3))
    X[np.arange(n), y] += 5
    return X, y


def voter(n: int, seed: int, labels: list[int] | None = None, n_classes: int = 2) -> Shown:
    X, y = separable(n, seed, n_classes)
    chosen = np.isin(y, labels) if labels else np.full(n, True)
    return Shown(X[chosen], y[chosen], separable(20, 1, n_classes)[0])


def task(shown: list[Shown], n_classes: int = 2) -> Task:
    X, y = separable(80, 0, n_classes)
    X_queries, _ = separable(20, 1, n_classes)
    return Task(
        X.astype(np.float32),
        y,
        X_queries.astype(np.float32),
        "ABC"[:n_classes],
        shown=shown,
        seed=0,
    )


def predicted(shown: list[Shown], n_classes: int = 2) -> list[int] | None:
    found = logistic.predict_by_same_numbers(task(shown, n_classes))
    return None if found is None else found.labels.tolist()


def test_separable_data_is_separated() -> None:
    truth = separable(20, 1)[1].tolist()
    assert predicted([voter(20, 2), voter(20, 3)]) == truth
    by_all = logistic.predict_by_all_features(task([]))
    assert by_all.labels.tolist() == truth


@pytest.mark.parametrize(
    "shown",
    [
        [],
        [voter(20, 2, labels=[0])],
        [Shown(np.empty((4, 0)), np.array([0, 1, 0, 1]), np.empty((20, 0)))],
        [Shown(np.empty((0, 3)), np.empty(0, np.int64), np.empty((20, 3)))],
    ],
)
def test_nothing_to_learn_from_gives_no_baseline(shown: list[Shown]) -> None:
    assert predicted(shown) is None


def test_a_voter_that_can_tell_nothing_is_left_out() -> None:
    useful, useless = voter(20, 2), voter(20, 3, labels=[0])
    assert predicted([useless, useful]) == predicted([useful])


def test_a_class_that_one_voter_never_showed_is_left_to_the_others() -> None:
    partial = [
        voter(60, seed, labels, 3) for seed, labels in ((2, [0, 1]), (3, [1, 2]), (4, [0, 2]))
    ]
    complete = [voter(60, seed, n_classes=3) for seed in (5, 6, 7)]
    assert predicted([*partial, *complete], n_classes=3) == separable(20, 1, 3)[1].tolist()


def test_constant_and_huge_numbers_are_no_trouble(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped after one iteration, too: a baseline must not warn in a user's face."""
    monkeypatch.setattr(logistic, "ITERATIONS", 1)
    plain = voter(20, 2)
    odd = Shown(
        np.column_stack([plain.examples * 1e9, np.ones(20)]),
        plain.labels,
        np.column_stack([plain.queries * 1e9, np.ones(20)]),
    )
    assert predicted([odd]) is not None
