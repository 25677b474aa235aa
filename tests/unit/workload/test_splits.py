"""Splits: by name, and made of the data alone."""

from __future__ import annotations

from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import DataError
from harness.workload.splits import Rows, by_content, by_name

PATH = Path("data.csv")


def place(row: int) -> str:
    return f"row {row}"


@pytest.mark.parametrize(
    ("names", "rows"),
    [
        (["train", "test", "train"], Rows([0, 2], [1])),
        (["Train", "TEST ", "training"], Rows([0, 2], [1])),
        (["train", "dev", "validation"], Rows([0], [1, 2])),
        (["train", "val", "test"], Rows([0], [2], unused=1)),
        (["train", "train"], Rows([0, 1], [])),
    ],
)
def test_splits_have_their_common_names(names: list[str], rows: Rows) -> None:
    assert by_name(names, place) == rows


def test_another_name_is_named() -> None:
    with pytest.raises(DataError, match="row 1: split is 'holdout'"):
        by_name(["train", "holdout"], place)


TEXTS = st.lists(
    st.tuples(st.text(max_size=8), st.sampled_from("ab")), min_size=6, max_size=60
).filter(lambda rows: all(sum(label == name for _, label in rows) > 1 for name in "ab"))


@given(TEXTS, st.floats(0.01, 0.99), st.randoms())
def test_a_split_depends_on_the_content_alone(
    rows: list[tuple[str, str]], share: float, chance: Random
) -> None:
    """Whatever the order of the rows is, and stratified."""

    def test_rows(some: list[tuple[str, str]]) -> list[tuple[str, str]]:
        X = np.array([text for text, _ in some], dtype=np.object_)
        found = by_content(PATH, X, [label for _, label in some], share)
        assert sorted([*found.train, *found.test]) == list(range(len(some)))
        return sorted(some[row] for row in found.test)

    shuffled = rows.copy()
    chance.shuffle(shuffled)
    drawn = test_rows(rows)
    assert test_rows(shuffled) == drawn
    for name in "ab":
        n, there = (sum(label == name for _, label in some) for some in (drawn, rows))
        assert 1 <= n <= max(1, round(share * there))


def test_equal_contents_are_in_one_split() -> None:
    X = np.array(["same"] * 5 + ["other"] * 5, dtype=np.object_)
    found = by_content(PATH, X, ["a"] * 10, 0.7)
    assert len({str(X[row]) for row in found.test}) == 1
    assert len(found.test) == 5


def test_a_vector_is_split_alike_in_every_type() -> None:
    X = np.random.default_rng(0).normal(size=(30, 3)).astype(np.float32)
    labels = ["a", "b"] * 15
    assert by_content(PATH, X, labels, 0.3) == by_content(PATH, X.astype(float), labels, 0.3)


def test_a_class_of_one_row_is_named() -> None:
    with pytest.raises(DataError, match="the class b has one row"):
        by_content(PATH, np.array(["x", "y", "z"], dtype=np.object_), ["a", "a", "b"], 0.3)
