"""Controls: what they can reach on data whose answer is known, and data that is awkward."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from harness.baselines.classifiers import ShownNumbers, score_controls
from harness.baselines import classifiers as controls
from harness.stats.intervals import wilson
from harness.summary import Controls

Matrix = NDArray[np.float64]
Labels = NDArray[np.int64]


@pytest.fixture(autouse=True)
def few_trees(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(controls, "_TREES", 20)


def separable(n: int, seed: int, n_classes: int = 2) -> tuple[Matrix, Labels]:
    """Points (n, 3) around one centre a class, far apart; class 0 is the commonest."""
    rng = np.random.default_rng(seed)
    y = np.where(rng.random(n) < 0.3, 0, rng.integers(0, n_classes, n))
    X = rng.normal(0, 0.1, (n, 3))
    X[np.arange(n), y] += 5
    return X, y


def score(shown: list[ShownNumbers], n_classes: int = 2) -> Controls:
    X, y = separable(80, 0, n_classes)
    X_queries, y_queries = separable(20, 1, n_classes)
    return score_controls(X, y, X_queries, y_queries, n_classes=n_classes, shown=shown, seed=0)


def voter(n: int, seed: int, labels: list[int] | None = None, n_classes: int = 2) -> ShownNumbers:
    X, y = separable(n, seed, n_classes)
    kept = np.isin(y, labels) if labels else np.full(n, True)
    return ShownNumbers(X[kept], y[kept], separable(20, 1, n_classes)[0])


def test_separable_data_is_separated() -> None:
    result = score([voter(20, 2), voter(20, 3)])
    _, y_queries = separable(20, 1)
    assert result.same_numbers_logistic == wilson(20, 20)
    assert result.all_features_logistic == wilson(20, 20)
    assert result.all_features_random_forest == wilson(20, 20)
    assert result.majority_class == wilson(int((y_queries == 0).sum()), 20)


def test_the_same_seed_gives_the_same_controls() -> None:
    assert score([voter(20, 2)]) == score([voter(20, 2)])


def test_the_commonest_class_is_that_of_training_and_the_first_on_ties() -> None:
    X, _ = separable(4, 0)
    result = score_controls(
        X, np.array([1, 0, 1, 0]), X[:3], np.array([1, 1, 0]), n_classes=2, shown=[], seed=0
    )
    assert result.majority_class == wilson(1, 3)


@pytest.mark.parametrize(
    "shown",
    [
        [],
        [voter(20, 2, labels=[0])],
        [ShownNumbers(np.empty((4, 0)), np.array([0, 1, 0, 1]), np.empty((20, 0)))],
        [ShownNumbers(np.empty((0, 3)), np.empty(0, np.int64), np.empty((20, 3)))],
    ],
)
def test_nothing_to_learn_from_gives_no_control(shown: list[ShownNumbers]) -> None:
    assert score(shown).same_numbers_logistic is None


def test_a_voter_that_can_tell_nothing_is_left_out() -> None:
    useful, useless = voter(20, 2), voter(20, 3, labels=[0])
    assert score([useless, useful]) == score([useful])


def test_a_class_that_one_voter_never_showed_is_left_to_the_others() -> None:
    partial = [
        voter(60, seed, labels, 3) for seed, labels in ((2, [0, 1]), (3, [1, 2]), (4, [0, 2]))
    ]
    complete = [voter(60, seed, n_classes=3) for seed in (5, 6, 7)]
    assert score([*partial, *complete], n_classes=3).same_numbers_logistic == wilson(20, 20)


def test_constant_and_huge_numbers_are_no_trouble(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped after one iteration, too: a control must not warn in a user's face."""
    monkeypatch.setattr(controls, "_ITERATIONS", 1)
    plain = voter(20, 2)
    odd = ShownNumbers(
        np.column_stack([plain.examples * 1e9, np.ones(20)]),
        plain.labels,
        np.column_stack([plain.queries * 1e9, np.ones(20)]),
    )
    assert score([odd]).same_numbers_logistic is not None
