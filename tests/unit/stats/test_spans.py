"""What spans add to their union."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.stats.spans import busy_seconds

spans = st.lists(st.tuples(st.integers(0, 50), st.integers(0, 20)), max_size=20)


def busy(pairs: list[tuple[int, int]]) -> list[float]:
    began = np.array([begin for begin, _ in pairs], dtype=np.float64)
    return [float(one) for one in busy_seconds(began, began + [length for _, length in pairs])]


@given(spans)
def test_the_sum_is_the_union(pairs: list[tuple[int, int]]) -> None:
    covered = {second for begin, length in pairs for second in range(begin, begin + length)}
    added = busy(pairs)
    assert sum(added) == len(covered)
    assert all(0 <= one <= length for one, (_, length) in zip(added, pairs, strict=True))


def test_what_does_not_overlap_counts_whole() -> None:
    assert busy([(5, 2), (0, 3), (10, 1)]) == [2, 3, 1]


@pytest.mark.parametrize(
    ("pairs", "added"),
    [([(0, 10), (2, 3)], [10, 0]), ([(2, 10), (0, 5)], [7, 5]), ([], [])],
)
def test_what_overlaps_counts_once(pairs: list[tuple[int, int]], added: list[float]) -> None:
    assert busy(pairs) == added
