"""Pair accuracy beside its ceiling: the two figures that show what it does not say."""

from __future__ import annotations

import numpy as np
import pytest

from harness.baselines.pairs import pair_accuracy, pair_ceiling, pair_facts

HALVES = np.array([0.5, 0.5])


@pytest.mark.parametrize(("batch", "ceiling"), [(4, 0.47), (40, 0.05), (1, 1.0)])
def test_a_perfect_classifier_of_two_labels_reaches_the_ceiling(batch: int, ceiling: float) -> None:
    assert round(pair_ceiling(HALVES, batch), 2) == ceiling
    y = np.arange(4000) % 2
    perfect = np.eye(2, dtype=np.float32)[y]
    found = pair_accuracy(perfect, y, batch, seed=0)
    assert found == pytest.approx(pair_ceiling(HALVES, batch), abs=0.01)


def test_with_a_text_of_its_own_each_row_can_be_found() -> None:
    y = np.arange(100)
    assert pair_accuracy(np.eye(100, dtype=np.float32), y, 4, seed=0) == 1.0
    assert pair_ceiling(np.full(100, 0.01), 4) == pytest.approx(0.985, abs=0.001)


def test_a_guess_is_right_once_a_batch() -> None:
    y = np.arange(400) % 2
    assert pair_accuracy(np.zeros((400, 2), np.float32), y, 4, seed=0) == 0.25


def test_too_few_rows_for_a_batch_have_no_figure() -> None:
    assert pair_facts(np.eye(2, dtype=np.float32), np.array([0, 1]), 0) == {}
    facts = pair_facts(np.eye(2, dtype=np.float32)[[0, 1] * 4], np.array([0, 1] * 4), 0)
    assert facts["pair accuracy ceiling"] == 0.4688
