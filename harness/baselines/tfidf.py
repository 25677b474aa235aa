"""Texts by TF-IDF and logistic regression: on words and on pieces of words, of all training texts,
and on the words of those that the model was shown.

The first two say what the texts hold, the last what the prompts hold.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from harness.baselines.kind import Content, Labels, Prediction, Task
from harness.baselines.logistic import ITERATIONS, without_convergence_warning
from harness.baselines.voted import voted

# More take minutes and gigabytes, and change little.
_MOST_CHARACTERS = 3_000_000


def _words() -> TfidfVectorizer:
    return TfidfVectorizer()


def _characters() -> TfidfVectorizer:
    """Two to five characters, within words."""
    return TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5))


def _fit(vectorizer: TfidfVectorizer, texts: Content, y: Labels) -> Any:
    model = make_pipeline(vectorizer, LogisticRegression(max_iter=ITERATIONS))
    with without_convergence_warning():
        return model.fit(texts, y)


def _predict(vectorizer: TfidfVectorizer, task: Task) -> Prediction | None:
    rows = _sample(task)
    try:
        model = _fit(vectorizer, task.X_train[rows], task.y_train[rows])
    except ValueError:  # no text holds a word, or the sample holds one class
        return None
    return Prediction(np.asarray(model.predict(task.X_queries), dtype=np.int64))


def _sample(task: Task) -> Labels:
    """The training rows to fit to: all, or as many at random as have so many characters."""
    order = np.random.default_rng(task.seed).permutation(len(task.X_train))
    lengths = np.array([len(text) for text in task.X_train])
    return np.sort(order[np.cumsum(lengths[order]) <= _MOST_CHARACTERS])


def _fit_shown(texts: Content, y: Labels) -> Any:
    try:
        return _fit(_words(), texts, y)
    except ValueError:  # no text holds a word
        return None


def predict_by_same_examples(task: Task) -> Prediction | None:
    return voted(task, _fit_shown)


def predict_by_words(task: Task) -> Prediction | None:
    return _predict(_words(), task)


def predict_by_characters(task: Task) -> Prediction | None:
    return _predict(_characters(), task)
