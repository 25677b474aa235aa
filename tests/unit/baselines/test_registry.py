"""Every baseline of the registry: that it finds what is there, and nothing where nothing is."""

from __future__ import annotations

import numpy as np
import pytest

from harness.baselines.kind import BaselineKind, Content, Labels, Task
from harness.baselines.registry import ALONE, KINDS, check_data, find_kinds
from harness.baselines.run import fit_baseline
from harness.errors import DataError, UsageError

WORDS = np.array([["dull", "awful", "cold", "grey"], ["lovely", "great", "warm", "bright"]])
TRAIN, QUERIES = 160, 100


def planted(kind: BaselineKind) -> tuple[Content, Labels]:
    """Rows of two classes that differ by one thing."""
    rng = np.random.default_rng(0)
    y = rng.permutation(np.arange(TRAIN + QUERIES) % 2)
    if "vectors" in kind.data:
        X = rng.normal(size=(len(y), 6)).astype(np.float32)
        X[:, 0] += 4 * y
        return X, y
    texts = [f"a {rng.choice(WORDS[label])} and {rng.choice(WORDS[label])} film" for label in y]
    return np.array(texts, dtype=np.object_), y


def accuracy(kind: BaselineKind, X: Content, y: Labels, y_train: Labels) -> float:
    task = Task(X[:TRAIN], y_train, X[TRAIN:], ("no", "yes"), shown=(), seed=0)
    found = fit_baseline(kind, task, y[TRAIN:])
    assert found is not None
    assert (found.kind, found.name) == (kind.name, kind.title)
    assert found.predictions is not None
    assert np.mean(np.array(found.predictions) == y[TRAIN:]) == pytest.approx(found.estimate.value)
    return found.estimate.value


# Those with options are trained in a worker, and tested with tiny models.
LEARNING = [one for one in ALONE if one.name != "most-frequent" and not one.takes]


@pytest.mark.parametrize("kind", LEARNING, ids=lambda one: one.name)
def test_each_finds_what_is_planted_and_nothing_in_shuffled_labels(kind: BaselineKind) -> None:
    X, y = planted(kind)
    assert accuracy(kind, X, y, y[:TRAIN]) > 0.9
    shuffled = np.random.default_rng(1).permutation(y[:TRAIN])
    assert 0.3 < accuracy(kind, X, y, shuffled) < 0.7


def test_names_and_titles_tell_all_apart() -> None:
    assert len({one.name for one in KINDS}) == len({one.title for one in KINDS}) == len(KINDS)


def test_the_probe_chooses_its_penalty_within_train_and_says_which() -> None:
    [probe] = find_kinds(["probe"])
    X, y = planted(probe)
    task = Task(X[:TRAIN], y[:TRAIN], X[TRAIN:], ("no", "yes"), shown=(), seed=0)
    found = fit_baseline(probe, task, y[TRAIN:])
    assert found is not None
    assert found.facts["folds"] == 5
    assert 1e-4 <= float(found.facts["C"]) <= 10


def test_without_a_second_row_of_a_class_there_is_no_probe() -> None:
    [probe] = find_kinds(["probe"])
    X, y = planted(probe)
    few = np.append(np.flatnonzero(y == 0)[:9], np.flatnonzero(y == 1)[:1])
    task = Task(X[few], y[few], X[TRAIN:], ("no", "yes"), shown=(), seed=0)
    with pytest.raises(DataError, match="a class has one training row only"):
        fit_baseline(probe, task, y[TRAIN:])


def test_boosting_takes_a_class_of_one_row_among_many_rows() -> None:
    [boosting] = find_kinds(["hist-gradient-boosting"])
    y = np.array([0] * 5000 + [1] * 5000 + [2])
    X = y[:, None].astype(np.float32)
    task = Task(X, y, X[4999:5001], ("a", "b", "c"), shown=(), seed=0)
    found = fit_baseline(boosting, task, y[4999:5001])
    assert found is not None
    assert found.predictions == [0, 1]


def test_fewer_training_rows_are_fewer_neighbours() -> None:
    [knn] = find_kinds(["knn"])
    X, y = planted(knn)
    task = Task(X[:5], np.array([0, 0, 0, 1, 1]), X[TRAIN:], ("no", "yes"), shown=(), seed=0)
    found = fit_baseline(knn, task, y[TRAIN:])
    assert found is not None
    assert found.facts == {"neighbours": 5}
    assert found.predictions == [0] * QUERIES  # the majority of all five


@pytest.mark.parametrize(
    ("names", "said", "remedy"),
    [
        (["rndom-forest"], "no baseline 'rndom-forest'", "Did you mean random-forest?"),
        (["zzz"], "no baseline 'zzz'", "There are: random-forest, logistic"),
        (["knn", "knn"], "knn is named twice", "once"),
        # of voters, which are in runs of engines alone
        (["logistic-same-numbers"], "no baseline 'logistic-same-numbers'", "There are"),
    ],
)
def test_a_name_that_cannot_be_is_refused(names: list[str], said: str, remedy: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        find_kinds(names)
    assert remedy in caught.value.remedy


def test_a_baseline_for_other_data_is_refused_and_those_for_these_are_named() -> None:
    kinds = find_kinds(["knn", "tfidf-words", "most-frequent"])
    with pytest.raises(UsageError, match=r"holds vectors.*work on them: tfidf-words$") as caught:
        check_data(kinds, "vectors", "digits")
    assert "random-forest" in caught.value.remedy
    with pytest.raises(UsageError, match=r"holds texts.*: knn$") as caught:
        check_data(kinds, "text", "reviews.csv")
    assert caught.value.remedy == (
        "For texts there are: tfidf-words, tfidf-characters, distilbert, two-towers, most-frequent."
    )
