"""TF-IDF baselines: what they reach on texts, and where there is nothing to learn."""

from __future__ import annotations

import numpy as np
import pytest

from harness.baselines import Shown, run_baselines, tfidf
from harness.baselines.kind import Content, Labels, Task
from harness.baselines.registry import kinds_in_runs
from harness.workload.dataset import make_dataset

GOOD, BAD = ("lovely", "great", "warm", "bright"), ("dull", "awful", "cold", "grey")
NAMES = [
    "TF-IDF words, same examples",
    "TF-IDF words, all texts",
    "TF-IDF characters, all texts",
    "the most frequent class",
]


def reviews(n: int, seed: int) -> tuple[Content, Labels]:
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.arange(n) % 2)
    words = [rng.choice(GOOD if label else BAD, 2) for label in y]
    return np.array([f"a {one} and {two} film" for one, two in words], dtype=np.object_), y


def test_each_reads_the_texts() -> None:
    data = make_dataset("toy", ("bad", "good"), reviews(60, 0), reviews(20, 1))
    shown = [Shown(*reviews(20, seed), data.X_test) for seed in (2, 3)]
    baselines = run_baselines(data, range(20), shown, seed=0)
    assert [one.name for one in baselines] == NAMES
    assert [kind.title for kind in kinds_in_runs("text")] == NAMES
    assert [one.estimate.value for one in baselines] == [1.0, 1.0, 1.0, 0.5]
    assert NAMES[1:] == [one.name for one in run_baselines(data, range(20), [], seed=0)]


def test_texts_without_a_word_give_no_baseline_of_words() -> None:
    X, y = np.array(["!", "?"] * 4, dtype=np.object_), np.arange(8) % 2
    task = Task(X, y, X, ("bad", "good"), [Shown(X, y, X)], seed=0)
    assert tfidf.predict_by_words(task) is None
    assert tfidf.predict_by_same_examples(task) is None
    assert tfidf.predict_by_characters(task) is not None


def test_of_very_many_texts_some_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = reviews(200, 0)
    monkeypatch.setattr(tfidf, "_MOST_CHARACTERS", sum(map(len, X)) // 2)
    fitted: list[int] = []

    def fit(self: object, texts: Content, labels: Labels) -> object:
        fitted.append(len(texts))
        raise ValueError

    monkeypatch.setattr("sklearn.pipeline.Pipeline.fit", fit)
    assert tfidf.predict_by_words(Task(X, y, X, ("bad", "good"), [], seed=0)) is None
    assert 90 < fitted[0] < 110
