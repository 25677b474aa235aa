"""Replies become ballots: by place, by decoding, and nothing where there is nothing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from harness.scoring.ballots import read_replies
from harness.scoring.parsing import NOT_PARSED

WORDS = ("no", "yes")


@dataclass(frozen=True, slots=True)
class Prompt:
    voter: int
    role: str
    position: int
    label: int


@dataclass(frozen=True, slots=True)
class Reply:
    text: str = ""
    finish: str = "stop"
    label_logprobs: tuple[float | None, ...] | None = None


# the second voter has one calibration query more
PROMPTS = [
    Prompt(0, "query", 0, label=1),
    Prompt(0, "query", 1, label=0),
    Prompt(0, "calibration", 0, label=1),
    Prompt(1, "query", 0, label=1),
    Prompt(1, "query", 1, label=0),
    Prompt(1, "calibration", 0, label=0),
    Prompt(1, "calibration", 1, label=0),
]


def test_what_was_written_is_the_vote_and_calibration_is_not_read() -> None:
    replies = {
        (0, 0): Reply("yes"),
        (2, 0): Reply("yes"),
        (3, 0): Reply("Yes!"),
        (4, 0): Reply("no", "length"),
    }
    parse, ballots = read_replies(PROMPTS, replies, WORDS, "free")
    assert ballots.votes.tolist() == [[1, -1], [1, -1]]
    assert ballots.truth.tolist() == [1, 0]
    assert (ballots.logprobs, ballots.calibration_logprobs) == (None, None)
    assert parse.replies == 3
    assert parse.strict is not None
    assert parse.lenient is not None
    assert (round(3 * parse.strict.value), round(3 * parse.lenient.value)) == (1, 2)
    assert parse.reasons is not None
    assert parse.reasons["cut_off"] == 1


def test_log_probabilities_stand_at_their_place_and_are_missing_elsewhere() -> None:
    replies = {
        (1, 0): Reply("yes", label_logprobs=(-1.0, -2.0)),
        (6, 0): Reply(label_logprobs=(-3.0, -4.0)),
    }
    _, ballots = read_replies(PROMPTS, replies, WORDS, "choice")
    nothing = [np.nan, np.nan]
    np.testing.assert_array_equal(ballots.logprobs, [[nothing, [-1.0, -2.0]], [nothing, nothing]])
    np.testing.assert_array_equal(
        ballots.calibration_logprobs, [[nothing, nothing], [nothing, [-3.0, -4.0]]]
    )
    assert ballots.votes.tolist() == [[-1, 1], [-1, -1]]


def test_in_score_decoding_the_likelier_label_is_the_vote() -> None:
    parse, ballots = read_replies(
        PROMPTS, {(3, 0): Reply("no", label_logprobs=(-2.0, -1.0))}, WORDS, "score"
    )
    assert parse == NOT_PARSED
    assert ballots.votes.tolist() == [[-1, -1], [1, -1]]


def test_without_replies_there_are_no_votes() -> None:
    for decoding in ("free", "choice", "score"):
        parse, ballots = read_replies(PROMPTS, {}, WORDS, decoding)
        assert parse == NOT_PARSED
        assert (ballots.votes == -1).all()
        assert ballots.logprobs is None


ONE = PROMPTS[:1]


@pytest.mark.parametrize(
    ("texts", "logprobs", "vote"),
    [
        (["yes", "no", "yes"], None, 1),
        (["no", "no", "yes"], (-5.0, -1.0), 0),
        (["yes", "no"], None, 0),
        (["yes", "no"], (-2.0, -1.0), 1),
        (["yes", "no"], (-1.0, -2.0), 0),
        (["yes", "no"], (-2.0, None), 0),
        (["perhaps", "no", "yes", "yes"], (-1.0, -2.0), 1),
        (["perhaps", "no"], (-2.0, -1.0), 0),
        (["perhaps", "perhaps"], (-2.0, -1.0), -1),
    ],
)
def test_the_attempts_of_a_voter_are_one_vote_and_all_are_counted(
    texts: list[str], logprobs: tuple[float | None, ...] | None, vote: int
) -> None:
    replies = {
        (0, attempt): Reply(text, label_logprobs=logprobs) for attempt, text in enumerate(texts)
    }
    parse, ballots = read_replies(ONE, replies, WORDS, "free")
    assert ballots.votes.tolist() == [[vote]]
    assert parse.replies == len(texts)
    assert parse.reasons is not None
    assert parse.reasons["no_label"] == texts.count("perhaps")


def test_log_probabilities_are_those_of_the_first_attempt() -> None:
    replies = {
        (0, 2): Reply("yes", label_logprobs=(-9.0, -8.0)),
        (0, 0): Reply("no", label_logprobs=(-1.0, -2.0)),
        (3, 1): Reply("no", label_logprobs=(-3.0, -4.0)),
    }
    _, ballots = read_replies(PROMPTS, replies, WORDS, "choice")
    assert ballots.logprobs is not None
    assert ballots.logprobs[0, 0].tolist() == [-1.0, -2.0]
    assert np.isnan(ballots.logprobs[1, 0]).all()
    assert ballots.votes.tolist() == [[0, -1], [0, -1]]


@pytest.mark.parametrize("decoding", ["free", "score"])
def test_a_row_that_lacks_a_label_is_missing(decoding: str) -> None:
    """An engine that reports the k likeliest tokens may know nothing of a label."""
    replies = {
        (0, 0): Reply("yes", label_logprobs=(None, -0.1)),
        (2, 0): Reply(label_logprobs=(-0.1, None)),
    }
    _, ballots = read_replies(PROMPTS, replies, WORDS, decoding)
    assert (ballots.logprobs, ballots.calibration_logprobs) == (None, None)
    assert ballots.votes[0, 0] == (1 if decoding == "free" else -1)
    replies[1, 0] = Reply("no", label_logprobs=(-0.5, -1.0))
    _, ballots = read_replies(PROMPTS, replies, WORDS, decoding)
    np.testing.assert_array_equal(
        ballots.logprobs, [[[np.nan] * 2, [-0.5, -1.0]], [[np.nan] * 2, [np.nan] * 2]]
    )


def test_behind_shuffled_labels_stand_votes_of_their_own_without_calibration() -> None:
    prompts = [*PROMPTS, Prompt(0, "shuffled", 0, label=1), Prompt(0, "shuffled", 1, label=0)]
    scored = Reply("yes", label_logprobs=(-1.0, -2.0))
    replies = {(0, 0): Reply("yes"), (2, 0): scored, (7, 0): scored, (8, 0): Reply("maybe")}
    parse, ballots = read_replies(prompts, replies, WORDS, "free", role="shuffled")
    assert ballots.votes.tolist() == [[1, -1], [-1, -1]]
    assert ballots.truth.tolist() == [1, 0]
    assert ballots.calibration_logprobs is None
    assert (parse.replies, parse.lenient and parse.lenient.value) == (2, 0.5)
    _, queries = read_replies(prompts, replies, WORDS, "free")
    assert queries.votes.tolist() == [[1, -1], [-1, -1]]
    assert queries.calibration_logprobs is not None
