"""Votes: the tie rules, independence of the voters' order, and what is missing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from harness.scoring.voting import (
    Scores,
    Votes,
    agreement,
    majority,
    normalised,
    pooled,
    verdicts,
    vote_shares,
    voter_offsets,
    votes_of_logprobs,
    without_leaning,
)

NAN = float("nan")
shapes = st.tuples(st.integers(1, 6), st.integers(1, 4), st.integers(2, 4))


@st.composite
def ballots(draw: st.DrawFn) -> tuple[Votes, Scores]:
    """Votes (V, Q) and log-probabilities (V, Q, C), some of either missing."""
    shape = draw(shapes)
    votes = draw(hnp.arrays(np.int64, shape[:2], elements=st.integers(-1, shape[2] - 1)))
    logprobs = draw(hnp.arrays(np.float64, shape, elements=st.floats(-100, 0)))
    logprobs[draw(hnp.arrays(np.bool_, shape[:2]))] = np.nan
    return votes, logprobs


@settings(deadline=None)
@given(ballots(), st.data())
def test_no_vote_depends_on_the_order_of_the_voters(
    ballot: tuple[Votes, Scores], data: st.DataObject
) -> None:
    votes, logprobs = ballot
    order = data.draw(st.permutations(range(len(votes))))
    n_classes = logprobs.shape[-1]
    np.testing.assert_array_equal(
        majority(votes, logprobs, n_classes), majority(votes[order], logprobs[order], n_classes)
    )
    np.testing.assert_array_equal(pooled(logprobs), pooled(logprobs[order]))
    np.testing.assert_array_equal(pooled(normalised(logprobs)), pooled(normalised(logprobs[order])))
    assert agreement(votes) == agreement(votes[order])


@settings(deadline=None)
@given(ballots())
def test_leading_axes_are_kept(ballot: tuple[Votes, Scores]) -> None:
    votes, logprobs = ballot
    n_classes = logprobs.shape[-1]
    twice = majority(np.stack([votes, votes]), np.stack([logprobs, logprobs]), n_classes)
    np.testing.assert_array_equal(twice, np.stack([majority(votes, logprobs, n_classes)] * 2))


@settings(deadline=None)
@given(ballots())
def test_the_majority_has_the_most_votes(ballot: tuple[Votes, Scores]) -> None:
    votes, logprobs = ballot
    for column, verdict in zip(votes.T, majority(votes, logprobs, logprobs.shape[-1]), strict=True):
        cast = column[column >= 0]
        if len(cast):
            assert (cast == verdict).sum() == np.bincount(cast).max()
        else:
            assert verdict == -1


def test_ties_go_to_the_larger_log_probability_then_to_the_first_class() -> None:
    votes = np.array([[1, 1, 2, -1], [2, 2, 1, -1]])
    logprobs = np.array(
        [
            # class 0 has the largest sum, but no vote
            [[-0.1, -3.0, -2.0], [-1, -2.0, -3.0], [NAN, NAN, NAN], [0.0, -1, -1]],
            [[-0.1, -3.0, -2.0], [-1, -3.0, -2.0], [NAN, NAN, NAN], [0.0, -1, -1]],
        ]
    )
    assert majority(votes, logprobs, 3).tolist() == [2, 1, 1, -1]
    assert majority(votes, None, 3).tolist() == [1, 1, 1, -1]


def test_a_tie_in_exact_arithmetic_is_a_tie() -> None:
    """0.1 + 0.2 + 0.3 depends on the order in float64; the first class has to win all the same."""
    votes = np.array([[0], [1]])
    logprobs = np.array([[[-0.1, -0.3]], [[-0.2, -0.1]], [[-0.3, -0.2]]])
    assert majority(np.vstack([votes, [[-1]]]), logprobs, 2).tolist() == [0]
    assert pooled(logprobs)[0, 0] == pooled(logprobs)[0, 1]


def test_soft_scores_average_what_is_there() -> None:
    logprobs = np.log(np.array([[[0.02, 0.08], [0.1, 0.1]], [[0.25, 0.25], [NAN, NAN]]]))
    scores = pooled(normalised(logprobs))
    expected = np.array([np.log([0.2, 0.8]) / 2 + np.log(0.5) / 2, np.log([0.5, 0.5])])
    np.testing.assert_allclose(scores, expected, atol=1e-8)


def test_a_row_with_an_infinite_number_is_missing() -> None:
    logprobs = np.array([[[-np.inf, -1.0]], [[-1.0, -2.0]]])
    np.testing.assert_allclose(pooled(normalised(logprobs)), normalised(logprobs)[1], atol=1e-8)
    assert np.isnan(pooled(normalised(logprobs[:1]))).all()


@settings(deadline=None)
@given(
    hnp.arrays(
        np.float64,
        st.tuples(st.integers(1, 4), st.integers(1, 5), st.just(2)),
        elements=st.floats(-50, 0),
    )
)
def test_an_offset_is_half_the_median_log_odds(logprobs: Scores) -> None:
    log_odds = logprobs[..., 1] - logprobs[..., 0]
    offsets = voter_offsets(logprobs)
    np.testing.assert_allclose(offsets[:, 1], np.median(log_odds, axis=1) / 2, atol=1e-9)
    np.testing.assert_allclose(offsets.sum(axis=1), 0, atol=1e-9)


@settings(deadline=None)
@given(
    hnp.arrays(np.float64, (3, 4, 3), elements=st.floats(-20, 0)),
    hnp.arrays(np.float64, (3, 1, 3), elements=st.floats(-5, 0)),
)
def test_calibration_removes_a_constant_leaning(logprobs: Scores, leaning: Scores) -> None:
    plain = without_leaning(logprobs, voter_offsets(logprobs))
    leaned = without_leaning(logprobs + leaning, voter_offsets(logprobs + leaning))
    np.testing.assert_allclose(pooled(plain), pooled(leaned), atol=1e-8)


def test_a_voter_without_calibration_is_left_out() -> None:
    calibration = np.array([[[-1.0, -2.0], [NAN, NAN]], [[NAN, NAN], [NAN, NAN]]])
    offsets = voter_offsets(calibration)
    np.testing.assert_array_equal(offsets, [[0.5, -0.5], [NAN, NAN]])
    logprobs = np.array([[[-1.0, -3.0]], [[-9.0, -1.0]]])
    np.testing.assert_allclose(pooled(without_leaning(logprobs, offsets)), [[0.5, -0.5]])
    assert np.isnan(voter_offsets(calibration[:, :0])).all()


def test_verdicts_take_the_first_of_equal_scores_and_skip_what_is_missing() -> None:
    scores = np.array([[-2.0, -1.0, -1.0], [NAN, NAN, NAN], [0.0, 0.0, 0.0]])
    assert verdicts(scores).tolist() == [1, -1, 0]
    assert votes_of_logprobs(scores[np.newaxis]).tolist() == [[1, -1, 0]]


def test_vote_shares() -> None:
    shares = vote_shares(np.array([[0, -1], [1, -1], [1, -1]]), 2)
    np.testing.assert_array_equal(shares, [[1 / 3, 2 / 3], [NAN, NAN]])


@pytest.mark.parametrize(
    ("votes", "expected"),
    [
        ([[0, 1], [0, 1]], 1.0),
        ([[0, 1], [1, 0]], 0.0),
        ([[0, 1], [0, 0], [1, -1]], 0.25),
        ([[0, 1]], None),
        ([[0, -1], [-1, 1]], None),
        ([[-1], [-1]], None),
    ],
)
def test_agreement_is_the_share_of_equal_pairs(
    votes: list[list[int]], expected: float | None
) -> None:
    assert agreement(np.array(votes)) == expected
