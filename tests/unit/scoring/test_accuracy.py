"""Accuracy: small cases by hand, agreement with scikit-learn, and figures that do not apply."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.special import softmax
from sklearn.metrics import balanced_accuracy_score, f1_score, roc_auc_score

from harness.record import Estimate
from harness.scoring.accuracy import Ballots, covers_chance, score_accuracy
from harness.scoring.voting import Scores, normalised, pooled
from harness.stats.intervals import wilson
from harness.summary import Accuracy

CLASSES = ("REAL", "FAKE")


def of_votes(truth: list[int], votes: list[list[int]]) -> Accuracy:
    return score_accuracy(Ballots(np.array(truth), np.array(votes), None, None), CLASSES, seed=0)


def of_logprobs(
    truth: list[int], logprobs: Scores, calibration: Scores | None = None, n_classes: int = 2
) -> Accuracy:
    ballots = Ballots(np.array(truth), logprobs.argmax(axis=-1), logprobs, calibration)
    return score_accuracy(ballots, tuple("ABCDEFGHIJ"[:n_classes]), seed=0)


def random_logprobs(seed: int, voters: int, queries: int, n_classes: int) -> Scores:
    shares = np.random.default_rng(seed).dirichlet(np.ones(n_classes), (voters, queries))
    return np.log(shares)


def value(estimate: Estimate | None) -> float:
    assert estimate is not None
    return estimate.value


def test_a_small_case_by_hand() -> None:
    accuracy = of_votes(
        [0, 0, 1, 1, 0],
        [[0, 1, 1, -1, -1], [0, 1, 0, -1, 0], [1, 0, 1, -1, 0]],
    )
    assert (accuracy.queries, accuracy.answered, accuracy.chance) == (5, 4, 0.6)
    assert accuracy.headline == "majority"
    assert accuracy.majority == wilson(3, 4)
    assert value(accuracy.single) == pytest.approx(7 / 11)
    assert accuracy.confusion == [[2, 1], [0, 1]]
    assert accuracy.balanced == pytest.approx((2 / 3 + 1) / 2)
    assert accuracy.f1 == pytest.approx((0.8 + 2 / 3) / 2)
    assert accuracy.auc == pytest.approx((1 + 0.5 + 1) / 3)
    assert accuracy.voter_agreement == pytest.approx((1 + 1 + 1 + 1) / 10)
    assert [row.voters for row in accuracy.by_voters] == [1, 2, 3]
    assert accuracy.classes == list(CLASSES)
    assert (accuracy.soft, accuracy.calibrated) == (None, None)


def test_a_missing_verdict_is_not_a_wrong_one() -> None:
    accuracy = of_votes([0, 1, 1], [[0, 1, -1]])
    assert accuracy.majority == wilson(2, 2)
    assert (accuracy.queries, accuracy.answered) == (3, 2)


def test_the_answered_queries_are_the_headlines() -> None:
    logprobs = random_logprobs(0, 2, 3, 2)
    unread = np.full((2, 3), -1)
    accuracy = score_accuracy(Ballots(np.array([0, 1, 0]), unread, logprobs, None), CLASSES, 0)
    assert (accuracy.headline, accuracy.majority) == ("soft", None)
    assert accuracy.answered == 3


def test_the_headline_is_the_best_founded_vote() -> None:
    logprobs = random_logprobs(0, 3, 8, 2)
    truth = [0, 1] * 4
    missing = np.full((3, 4, 2), np.nan)
    assert of_logprobs(truth, logprobs, random_logprobs(1, 3, 4, 2)).headline == "calibrated"
    assert of_logprobs(truth, logprobs).headline == "soft"
    assert of_logprobs(truth, logprobs, missing).headline == "soft"
    assert of_logprobs(truth, logprobs, missing).calibrated is None
    assert of_votes(truth, [[0] * 8]).headline == "majority"


def test_calibration_undoes_a_leaning_that_hides_the_answer() -> None:
    truth = [0, 1] * 10
    log_odds = np.array([-0.5, 0.5] * 10)
    leaning = np.array([[4.0], [-3.0], [5.0]])
    logprobs = np.stack([np.zeros((3, 20)), log_odds + leaning], axis=-1)
    calibration = np.stack([np.zeros((3, 2)), np.array([-0.5, 0.5]) + leaning], axis=-1)
    accuracy = of_logprobs(truth, logprobs, calibration)
    assert (value(accuracy.majority), value(accuracy.soft)) == (0.5, 0.5)
    assert accuracy.calibrated == wilson(20, 20)
    assert accuracy.auc == 1.0
    assert [row.calibrated for row in accuracy.by_voters] == [1.0, 1.0, 1.0]


def test_figures_are_scikit_learns() -> None:
    logprobs = random_logprobs(2, 4, 50, 3)
    truth = np.random.default_rng(3).integers(0, 3, 50)
    accuracy = of_logprobs(truth.tolist(), logprobs, n_classes=3)
    scores = pooled(normalised(logprobs))
    verdict = scores.argmax(axis=-1)
    assert accuracy.balanced == pytest.approx(balanced_accuracy_score(truth, verdict))
    assert accuracy.f1 == pytest.approx(f1_score(truth, verdict, average="macro"))
    assert accuracy.auc == pytest.approx(
        roc_auc_score(truth, softmax(scores, axis=-1), multi_class="ovr", average="macro")
    )
    assert np.sum(accuracy.confusion or []) == 50


def test_a_verdict_that_is_never_the_truth_is_no_warning() -> None:
    logprobs = np.log(np.array([[[0.1, 0.1, 0.8], [0.1, 0.8, 0.1], [0.8, 0.1, 0.1]]]))
    accuracy = of_logprobs([0, 1, 0], logprobs, n_classes=3)
    assert accuracy.balanced == pytest.approx(0.75)
    assert accuracy.confusion == [[1, 0, 1], [0, 1, 0], [0, 0, 0]]


def test_one_class_has_no_balance_and_no_curve() -> None:
    accuracy = of_votes([1, 1], [[1, 0]])
    assert (accuracy.balanced, accuracy.f1, accuracy.auc) == (None, None, None)
    assert accuracy.confusion == [[0, 0], [1, 1]]
    assert accuracy.chance == 1.0


def test_nobody_voted() -> None:
    accuracy = of_votes([0, 1], [[-1, -1], [-1, -1]])
    assert accuracy.answered == 0
    assert accuracy.headline == "majority"
    assert (accuracy.single, accuracy.majority, accuracy.confusion) == (None, None, None)
    assert accuracy.by_voters[1].majority is None
    assert accuracy.sentence == ""  # words are for where it is shown
    assert not covers_chance(accuracy)


@pytest.mark.parametrize(("right", "covers"), [(54, False), (16, False), (30, True)])
def test_an_interval_that_holds_chance_covers_it(right: int, covers: bool) -> None:
    truth = np.arange(60) % 2
    votes = np.where(np.arange(60) < right, truth, 1 - truth)
    assert covers_chance(of_votes(truth.tolist(), [votes.tolist()])) is covers


def test_more_voters_than_can_all_be_tried_are_sampled_by_the_seed() -> None:
    logprobs = random_logprobs(4, 10, 20, 2)
    ballots = Ballots(np.arange(20) % 2, logprobs.argmax(axis=-1), logprobs, logprobs[:, :5])
    first, again, other = (score_accuracy(ballots, CLASSES, seed) for seed in (1, 1, 2))
    assert first == again
    assert first.by_voters[0] == other.by_voters[0]
    assert first.by_voters[4] != other.by_voters[4]


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 5), st.integers(1, 6), st.integers(2, 3), st.data())
def test_by_voters_ends_at_the_votes_and_holes_never_fail(
    voters: int, queries: int, n_classes: int, data: st.DataObject
) -> None:
    logprobs = random_logprobs(data.draw(st.integers(0, 99)), voters, queries, n_classes)
    logprobs[data.draw(hnp.arrays(np.bool_, (voters, queries)))] = np.nan
    label = st.integers(0, n_classes - 1)
    truth = data.draw(hnp.arrays(np.int64, queries, elements=label))
    votes = data.draw(hnp.arrays(np.int64, (voters, queries), elements=label))
    votes[np.isnan(logprobs).any(axis=-1)] = -1
    ballots = Ballots(truth, votes, logprobs, logprobs[:, : queries // 2])
    accuracy = score_accuracy(ballots, tuple("abc"[:n_classes]), seed=0)
    last = accuracy.by_voters[-1]
    for vote in ("majority", "soft", "calibrated"):
        estimate = getattr(accuracy, vote)
        mean = getattr(last, vote)
        assert mean == (None if estimate is None else pytest.approx(estimate.value))
    assert Accuracy.model_validate_json(accuracy.model_dump_json()) == accuracy


def test_of_sampled_replies_the_majority_is_the_headline() -> None:
    truth, votes = np.array([0, 1]), np.array([[0, 0]])
    ballots = Ballots(truth, votes, np.log([[[0.9, 0.1], [0.1, 0.9]]]), None)
    assert score_accuracy(ballots, ("A", "B"), seed=0).headline == "soft"
    sampled = score_accuracy(ballots, ("A", "B"), seed=0, is_sampled=True)
    assert (sampled.headline, sampled.confusion) == ("majority", [[1, 0], [1, 0]])
