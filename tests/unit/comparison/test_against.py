"""An entry against the baselines of its run."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from harness.comparison.against import against_baselines
from harness.metrics import Outcome
from harness.record import Estimate
from harness.summary import SHUFFLED, Baseline

TRUTH = np.arange(40) % 2


def baseline(name: str, wrong: int | None) -> Baseline:
    """Wrong on so many of the first queries; `None`: stored before predictions were."""
    predictions = None
    if wrong is not None:
        predictions = np.where(np.arange(40) < wrong, 1 - TRUTH, TRUTH).tolist()
    estimate = Estimate(value=0.5, low=0.4, high=0.6)
    return Baseline(name=name, estimate=estimate, seconds=None, predictions=predictions)


def test_each_is_tested_over_the_same_queries_and_comes_first() -> None:
    best, middle = baseline("best", 0), baseline("middle", 12)
    verdicts = np.where(np.arange(40) < 12, 1 - TRUTH, TRUTH)
    found = against_baselines(TRUTH, verdicts, [best, baseline("old", None), middle])
    assert [one.baseline for one in found] == ["best", "middle"]
    worse, same = (one.difference for one in found)
    assert (worse.metric, worse.test, worse.paired) == ("accuracy", "McNemar, exact", True)
    assert (worse.first, worse.other, worse.samples) == (1.0, 0.7, (40, 40))
    exact = binomtest(0, 12).pvalue
    assert worse.p_value == pytest.approx(exact)
    assert worse.p_adjusted == pytest.approx(2 * exact)
    assert worse.outcome is Outcome.WORSE
    assert (same.p_value, same.outcome) == (1.0, Outcome.NO_SIGNIFICANT_DIFFERENCE)


def test_queries_without_a_verdict_do_not_count() -> None:
    verdicts = np.where(np.arange(40) < 10, -1, TRUTH)
    [found] = against_baselines(TRUTH, verdicts, [baseline("one", 12)])
    assert (found.difference.samples, found.difference.first) == ((30, 30), 28 / 30)
    assert against_baselines(TRUTH, np.full(40, -1), [baseline("one", 12)]) == []


def test_without_baselines_there_is_nothing_to_test() -> None:
    assert against_baselines(TRUTH, TRUTH, []) == []
    assert against_baselines(TRUTH, TRUTH, [baseline("old", None)]) == []


def test_shuffled_labels_are_one_baseline_more_whose_unread_queries_do_not_count() -> None:
    shuffled = np.where(np.arange(40) < 10, -1, 1 - TRUTH)
    one, found = against_baselines(TRUTH, TRUTH, [baseline("one", 12)], (TRUTH, shuffled))
    assert (one.baseline, found.baseline) == ("one", SHUFFLED)
    assert (found.difference.samples, found.difference.first) == ((30, 30), 0.0)
    assert found.difference.outcome is Outcome.BETTER
