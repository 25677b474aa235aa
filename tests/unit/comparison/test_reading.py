"""Replies are read as the run read them for its summary."""

from __future__ import annotations

import math

from backends.api import Finish, Reply
from harness.comparison.reading import Answer, Read, read, read_entry
from harness.comparison.records import Member
from harness.store.schema import PromptRow
from tests.unit.comparison.made import WORDS, Made, entry, summary_of
from tests.unit.report.conftest import RUN

MEMBER = Member(run_id="a", entry="one", backend="mock")
PROMPTS = [
    *(PromptRow(0, "query", place, 100 + place, 0, 5, "t") for place in range(3)),
    *(PromptRow(0, "calibration", place, 7 + place, 0, 5, "t") for place in range(2)),
]


def reply(finish: Finish, text: str, logprobs: tuple[float | None, ...] | None) -> Reply:
    return Reply(0, finish, 5, text=text, label_logprobs=logprobs)


def made(replies: dict[tuple[int, int], Reply], decoding: str = "free") -> Read:
    accuracy = RUN.accuracy.model_copy(update={"headline": "majority"})
    summary = summary_of("one", accuracy=accuracy, label_words=list(WORDS))
    return read(MEMBER, "x", PROMPTS, replies, summary, decoding)


def test_labels_are_what_was_written_and_verdicts_the_headlines() -> None:
    """One voter; the majority of one is what it wrote, though its log-probabilities say REAL."""
    replies = {
        (0, 0): reply("stop", " No.\n", (-3.0, -0.1)),
        (1, 0): reply("length", "no", (-math.inf, -0.1)),
        (3, 0): reply("stop", "no", (-1.0, -2.0)),
    }
    found = made(replies)
    assert found.answers == {
        (0, "query", 0): Answer("FAKE", (-3.0, -0.1)),
        (0, "query", 1): Answer(None, None),
        (0, "calibration", 0): Answer(None, (-1.0, -2.0)),
    }
    assert (found.vote, found.verdicts) == ("majority", {0: "FAKE"})
    assert len(found.prompts) == len(PROMPTS)
    scored = made(replies, "score")
    assert scored.answers[0, "query", 0].label == "REAL"
    assert scored.answers[0, "query", 1].label is None


def test_of_several_attempts_the_majority_is_the_label_and_the_first_has_the_odds() -> None:
    found = made(
        {
            (0, 0): reply("stop", "yes", (-3.0, -0.1)),
            (0, 1): reply("stop", "no", (-1.0, -1.0)),
            (0, 2): reply("stop", "no", (-1.0, -1.0)),
        }
    )
    assert found.answers == {(0, "query", 0): Answer("FAKE", (-3.0, -0.1))}


def test_log_probabilities_of_some_labels_are_none() -> None:
    found = made({(0, 0): reply("stop", "yes", (None, -0.1))})
    assert found.answers == {(0, "query", 0): Answer("REAL", None)}


def test_an_entry_is_read_once() -> None:
    one = entry()
    assert read_entry(one) is read_entry(one)
    assert read_entry(one).member == Member(run_id="a", entry="mock", backend="mock")
    assert read_entry(one).model_sha256 == "m"
    assert read_entry(entry(Made("+"))) is not read_entry(one)
