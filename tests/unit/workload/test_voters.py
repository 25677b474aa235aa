"""Voters: no leak from test or calibration, balance in every beginning, reproducible draws."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from harness.errors import DataError, UsageError
from harness.spec import RunSpec
from harness.workload.dataset import Dataset, make_dataset
from harness.workload.encoders import Item
from harness.workload.voters import Voter, draw_voters


def toy(train: Sequence[int], test: Sequence[int], width: int = 6) -> Dataset:
    """Random vectors with as many rows of each class as the counts say."""
    rng = np.random.default_rng(0)
    y_train, y_test = (
        np.repeat(np.arange(len(counts), dtype=np.int64), counts) for counts in (train, test)
    )
    X_train, X_test = (
        rng.normal(size=(len(y), width)).astype(np.float32) for y in (y_train, y_test)
    )
    classes = tuple(f"class{number}" for number in range(len(train)))
    return make_dataset("toy", classes, (X_train, y_train), (X_test, y_test))


def spec(**changes: Any) -> RunSpec:
    return RunSpec(**({"voters": 2, "queries": 6, "reducer": "plsda:1"} | changes))


def spread(items: Sequence[Item], classes: int) -> int:
    """The greatest difference between the counts of two classes."""
    counts = Counter(item.label for item in items)
    return max(counts[label] for label in range(classes)) - min(
        counts[label] for label in range(classes)
    )


def rows(items: Sequence[Item]) -> list[int]:
    return [item.row for item in items]


COUNTS = st.lists(st.integers(1, 30), min_size=2, max_size=4)
SPECS = st.builds(
    spec,
    seed=st.integers(0, 2**32 - 1),
    queries=st.integers(1, 20),
    calibration_queries=st.integers(0, 20),
    feature_fraction=st.sampled_from([0.01, 0.5, 1.0]),
    bootstrap=st.booleans(),
    reducer=st.sampled_from(["none", "pca:1", "plsda:1"]),
    encoding=st.sampled_from(["int:10", "int:10:quantile", "decimal:2"]),
)


def draw(dataset: Dataset, run: RunSpec) -> tuple[Voter, ...]:
    """The voters, unless these few rows leave a class or a component out."""
    try:
        return draw_voters(dataset, run)
    except (DataError, UsageError):
        assume(False)
        raise


@settings(max_examples=60, deadline=None)
@given(train=COUNTS, run=SPECS)
def test_rows_are_distinct_balanced_and_labelled_right(train: list[int], run: RunSpec) -> None:
    dataset = toy(train, test=train)
    for voter in draw(dataset, run):
        shown, held = rows(voter.examples), rows(voter.calibration)
        assert len({*shown, *held}) == len(shown) + len(held)
        for items, y in (
            ((*voter.examples, *voter.calibration), dataset.y_train),
            (voter.queries, dataset.y_test),
        ):
            assert all(item.label == y[item.row] for item in items)
        for items in (voter.examples, voter.calibration):
            assert all(spread(items[:end], len(train)) <= 1 for end in range(len(items) + 1))
        assert len(held) <= run.calibration_queries
        assert len(shown) >= 3 * len(held)
        assert voter.examples


@settings(max_examples=30, deadline=None)
@given(run=SPECS, more=st.integers(1, 3))
def test_a_voter_does_not_depend_on_how_many_there_are(run: RunSpec, more: int) -> None:
    dataset = toy([15, 12], test=[8, 8])
    voters = draw(dataset, run)
    crowd = draw(dataset, run.model_copy(update={"voters": run.voters + more}))
    assert crowd[: len(voters)] == voters
    assert [voter.index for voter in crowd] == list(range(run.voters + more))


@settings(max_examples=30, deadline=None)
@given(run=SPECS, test=COUNTS)
def test_queries_are_shared_and_as_balanced_as_the_test_split_allows(
    run: RunSpec, test: list[int]
) -> None:
    voters = draw(toy([20] * len(test), test), run)
    queries = rows(voters[0].queries)
    assert all(rows(voter.queries) == queries for voter in voters)
    assert len(set(queries)) == len(queries) == min(run.queries, sum(test))
    if len(queries) <= len(test) * min(test):
        assert spread(voters[0].queries, len(test)) <= 1


@settings(max_examples=20, deadline=None)
@given(run=SPECS, factor=st.sampled_from([-1, 1000]))
def test_test_vectors_decide_nothing_but_the_words_of_queries(run: RunSpec, factor: int) -> None:
    dataset = toy([15, 15], test=[8, 8])
    other = replace(dataset, X_test=factor * dataset.X_test)
    for voter, twin in zip(draw(dataset, run), draw(other, run), strict=True):
        assert replace(voter, queries=()) == replace(twin, queries=())


@pytest.mark.parametrize("bootstrap", [True, False])
def test_training_rows_are_shown_out_of_bag_or_all(bootstrap: bool) -> None:
    run = spec(bootstrap=bootstrap, calibration_queries=0)
    (voter, _) = draw_voters(toy([100, 100], test=[5, 5]), run)
    share = len(voter.examples) / 200  # a bootstrap sample leaves out 1/e of the rows
    assert 0.25 < share < 0.5 if bootstrap else share == 1


def test_the_reducer_never_saw_the_rows_out_of_bag() -> None:
    """Random labels: a reducer that saw its rows would tell them apart, an honest one cannot."""
    dataset = toy([60, 60], test=[5, 5], width=100)
    run = spec(voters=8, reducer="plsda:20", feature_fraction=1.0, encoding="decimal:3")

    def hits(voters: Sequence[Voter]) -> float:
        items = [item for voter in voters for item in voter.examples]
        return float(np.mean([(float(item.words[0]) > 0) == item.label for item in items]))

    assert hits(draw_voters(dataset, run)) < 0.65
    assert hits(draw_voters(dataset, run.model_copy(update={"bootstrap": False}))) > 0.9


@pytest.mark.parametrize(
    ("fraction", "width"), [(0.001, 1), (0.5, 3), (0.75, 4), (1.0, 6)], ids=str
)
def test_the_fraction_of_features(fraction: float, width: int) -> None:
    voters = draw_voters(toy([20, 20], test=[5, 5]), spec(feature_fraction=fraction, voters=5))
    for voter in voters:
        assert len(voter.features) == width
        assert list(voter.features) == sorted(set(voter.features))
        assert set(voter.features) <= set(range(6))
    if fraction < 1:
        assert len({voter.features for voter in voters}) > 1


def test_seeds_and_voters_differ() -> None:
    dataset = toy([30, 30], test=[20, 20])
    first, second = draw_voters(dataset, spec())
    other, _ = draw_voters(dataset, spec(seed=1))
    assert len({tuple(rows(voter.examples)) for voter in (first, second, other)}) == 3
    assert rows(first.queries) != rows(other.queries)


def test_calibration_takes_a_quarter_at_most() -> None:
    dataset = toy([40, 8], test=[5, 5])
    (voter, _) = draw_voters(dataset, spec(bootstrap=False, calibration_queries=50))
    assert len(voter.calibration) == 4
    assert len(voter.examples) == 12


def test_several_classes_have_a_word_each() -> None:
    (voter, _) = draw_voters(toy([20, 20, 20], test=[5, 5, 5]), spec(feature_fraction=1.0))
    assert {len(item.words) for item in (*voter.examples, *voter.queries)} == {3}


def test_a_class_without_rows_to_show_is_named() -> None:
    with pytest.raises(DataError, match="class class1 fell") as caught:
        draw_voters(toy([9, 1], test=[5, 5]), spec(reducer="none"))
    assert "--no-bootstrap" in caught.value.remedy
