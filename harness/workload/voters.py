"""Voters: each sees other training examples, and of vectors other features. All get the same
queries.

This is a random forest with a language model for its leaves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from harness.spec import DataSpec, RunSpec
from harness.workload.dataset import Dataset, Kind
from harness.workload.encoders import Encoder, Fit, Indices, Item
from harness.workload.texts import fit_texts
from harness.workload.vectors import fit_vectors

ENCODERS: Mapping[Kind, Fit] = {"vectors": fit_vectors, "text": fit_texts}


@dataclass(frozen=True, slots=True)
class Voter:
    """One random subset of training examples, and of features if there are any.

    `features`: the chosen columns, ascending. `examples`: every example it may show; in each
    beginning of them the counts of the classes differ by one at most. `calibration`: balanced
    training examples that are never shown, put to it as extra queries. `queries`: the same test
    rows in the same order for every voter, in words of its own.
    """

    index: int
    features: tuple[int, ...]
    examples: Sequence[Item]
    calibration: Sequence[Item]
    queries: Sequence[Item]


def draw_voters(dataset: Dataset, spec: RunSpec) -> tuple[Voter, ...]:
    """The voters of a run; a function of dataset and spec, byte for byte.

    Voter i does not depend on how many there are. Where the test split has fewer rows than
    `spec.queries`, all of them are taken. Raises `UsageError` for a reducer or an encoding that
    cannot be, `DataError` where a class has no out-of-bag row to show.
    """
    [voters] = draw_in_encodings(dataset, spec, [spec.encoding])
    return voters


def draw_in_encodings(
    dataset: Dataset, spec: RunSpec, encodings: Sequence[str]
) -> list[tuple[Voter, ...]]:
    """What `draw_voters` draws with each of the encodings; what is fitted is fitted once."""
    queries = draw_queries(dataset.y_test, spec)
    drawn = [_draw_voter(dataset, spec, queries, index, encodings) for index in range(spec.voters)]
    return list(zip(*drawn, strict=True))


def draw_queries(y_test: Indices, spec: DataSpec) -> Indices:
    """The rows of the test split that are classified, by engines as by baselines."""
    # A third word keeps this stream apart from every voter's; [seed] alone would equal [seed, 0].
    rng = np.random.default_rng([spec.seed, 0, 1])
    return _in_rounds(y_test, rng)[: spec.queries]


def _draw_voter(
    dataset: Dataset, spec: RunSpec, queries: Indices, index: int, encodings: Sequence[str]
) -> list[Voter]:
    """The voter in each of the encodings."""
    # All draws of a voter come from one stream: first those of its encoder.
    rng = np.random.default_rng(np.random.SeedSequence([spec.seed, index]))
    first = ENCODERS[dataset.kind](dataset, spec, rng)
    examples, calibration = _deal(dataset.y_train, first.candidates, spec.calibration_queries, rng)

    def voter(seen: Encoder) -> Voter:
        return Voter(
            index=index,
            features=seen.features,
            examples=seen.items(dataset.X_train, dataset.y_train, examples),
            calibration=seen.items(dataset.X_train, dataset.y_train, calibration),
            queries=seen.items(dataset.X_test, dataset.y_test, queries),
        )

    return [
        voter(first if text == spec.encoding else first.in_encoding(text, dataset))
        for text in encodings
    ]


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
    # `lexsort` sorts by its last key first: by turn, and at random within a turn.
    return np.lexsort((rng.random(len(y)), turn))
