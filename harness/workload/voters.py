"""Voters: each sees other training examples and other features, and all get the same queries.

This is a random forest with a language model for its leaves. A voter fits its reducer to a
bootstrap sample and shows rows from outside that sample (out of bag): numbers of rows that the
reducer was fitted to look better than those of a query ever will.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from harness.errors import DataError, UsageError
from harness.spec import RunSpec
from harness.workload.dataset import Dataset
from harness.workload.encoding import Encoding, fit_encoding
from harness.workload.reducers import Reducer, fit_reducer

Indices: TypeAlias = NDArray[np.int64]

_MOST_VOTERS = 1000


@dataclass(frozen=True, slots=True)
class Item:
    """One embedding as a voter shows it.

    `row` is an index into X_train (examples, calibration) or X_test (queries), `label` one into
    the dataset's classes.
    """

    row: int
    label: int
    words: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Voter:
    """One random subset of training examples and features.

    `features`: the chosen columns, ascending. `examples`: every example it may show; in each
    beginning of them the counts of the classes differ by one at most. `calibration`: balanced
    training examples that are never shown, put to it as extra queries. `queries`: the same test
    rows in the same order for every voter, in words of its own.
    """

    index: int
    features: tuple[int, ...]
    examples: tuple[Item, ...]
    calibration: tuple[Item, ...]
    queries: tuple[Item, ...]


@dataclass(frozen=True, slots=True, eq=False)
class _View:
    """How a voter sees a vector: chosen columns, reduced, in words."""

    features: Indices
    reducer: Reducer
    encoding: Encoding

    def items(self, X: NDArray[np.float32], y: Indices, rows: Indices) -> tuple[Item, ...]:
        if not rows.size:
            return ()
        words = self.encoding.encode(self.reducer(X[np.ix_(rows, self.features)]))
        shown = zip(rows.tolist(), y[rows].tolist(), words, strict=True)
        return tuple(Item(row, label, text) for row, label, text in shown)


def draw_voters(dataset: Dataset, spec: RunSpec) -> tuple[Voter, ...]:
    """The voters of a run; a function of dataset and spec, byte for byte.

    Voter i does not depend on how many there are. Where the test split has fewer rows than
    `spec.queries`, all of them are taken. Raises `UsageError` for too many voters and for a reducer
    or an encoding that cannot be, `DataError` where a class has no out-of-bag row to show.
    """
    if spec.voters > _MOST_VOTERS:
        # All voters are held in memory with all that they may show. The votes of so many are
        # known to 0.016 (the standard error of a share of 1,000): more would change no answer.
        raise UsageError(
            f"--voters {spec.voters}: at most {_MOST_VOTERS} can be drawn",
            remedy="Lower --voters: some dozens vote as more would.",
        )
    queries = _draw_queries(dataset.y_test, spec)
    return tuple(_draw_voter(dataset, spec, queries, index) for index in range(spec.voters))


def _draw_queries(y_test: Indices, spec: RunSpec) -> Indices:
    # A third word keeps this stream apart from every voter's; [seed] alone would equal [seed, 0].
    rng = np.random.default_rng([spec.seed, 0, 1])
    return _in_rounds(y_test, rng)[: spec.queries]


def _draw_voter(dataset: Dataset, spec: RunSpec, queries: Indices, index: int) -> Voter:
    rng = np.random.default_rng(np.random.SeedSequence([spec.seed, index]))
    features = _draw_features(dataset.X_train.shape[1], spec.feature_fraction, rng)
    fitted, candidates = _draw_rows(dataset, spec.bootstrap, rng)
    X, y = dataset.X_train[:, features], dataset.y_train
    reducer = fit_reducer(spec.reducer, X[fitted], y[fitted], int(rng.integers(2**32)))
    # Edges come from the rows that are shown: in the bag, numbers spread wider than a query's do.
    view = _View(features, reducer, fit_encoding(spec.encoding, reducer(X[candidates])))
    examples, calibration = _deal(y, candidates, spec.calibration_queries, rng)
    return Voter(
        index=index,
        features=tuple(features.tolist()),
        examples=view.items(dataset.X_train, y, examples),
        calibration=view.items(dataset.X_train, y, calibration),
        queries=view.items(dataset.X_test, dataset.y_test, queries),
    )


def _draw_features(width: int, fraction: float, rng: np.random.Generator) -> Indices:
    return np.sort(rng.choice(width, size=max(1, round(width * fraction)), replace=False))


def _draw_rows(
    dataset: Dataset, bootstrap: bool, rng: np.random.Generator
) -> tuple[Indices, Indices]:
    """The train rows that fit the reducer, and those that may be shown.

    The bootstrap is drawn within each class, so that none is missing from the sample.
    """
    everyone = np.arange(len(dataset.y_train))
    if not bootstrap:
        return everyone, everyone
    members = [np.flatnonzero(dataset.y_train == label) for label in range(len(dataset.classes))]
    bag = np.concatenate([rng.choice(rows, size=len(rows)) for rows in members])
    outside = np.setdiff1d(everyone, bag)
    for name, rows in zip(dataset.classes, members, strict=True):
        if not np.isin(rows, outside).any():
            raise DataError(
                f"{dataset.name}: all {len(rows)} training rows of class {name} fell into a "
                "voter's bootstrap sample, so none is left to show",
                remedy="Give more training rows of it, or use --no-bootstrap.",
            )
    return bag, outside


def _deal(
    y: Indices, candidates: Indices, calibration_queries: int, rng: np.random.Generator
) -> tuple[Indices, Indices]:
    """The candidates as examples and calibration rows, both balanced, in the order of showing.

    Calibration gets at most a quarter of each class, counted in the smallest one.
    """
    dealt = candidates[_in_rounds(y[candidates], rng)]
    counts = np.unique_counts(y[candidates]).counts
    size = min(calibration_queries, len(counts) * int(counts.min() // 4))
    calibration, rest = dealt[:size], dealt[size:]
    return rest[_balanced_rounds(y[rest], rng)], calibration


def _balanced_rounds(y: Indices, rng: np.random.Generator) -> Indices:
    """Rounds as in `_in_rounds`, up to where the first class is exhausted."""
    counts = np.unique_counts(y).counts
    return _in_rounds(y, rng)[: len(counts) * int(counts.min())]


def _in_rounds(y: Indices, rng: np.random.Generator) -> Indices:
    """A random order of the positions in y: rounds of one of each class that has any left."""
    shuffled = rng.permutation(len(y))
    turn = np.empty_like(y)
    for label in np.unique(y):
        members = shuffled[y[shuffled] == label]
        turn[members] = np.arange(len(members))
    return np.lexsort((rng.random(len(y)), turn))
