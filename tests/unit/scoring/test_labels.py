from __future__ import annotations

import math

import pytest

from backends.api import Reply
from harness.scoring.labels import read_label
from harness.scoring.parsing import Unparsed, UnparsedReason

NO_LABEL = Unparsed(UnparsedReason.NO_LABEL)


@pytest.mark.parametrize(
    ("text", "finish", "read"),
    [
        (" yes.", "stop", 1),
        ("perhaps", "stop", NO_LABEL),
        ("no yes", "stop", Unparsed(UnparsedReason.TWO_LABELS)),
        ("yes", "length", Unparsed(UnparsedReason.CUT_OFF)),
    ],
)
def test_what_is_written_is_parsed(text: str, finish: str, read: int | Unparsed) -> None:
    # mypy takes the parameter for any text.
    reply = Reply(0, finish, 3, text=text, label_logprobs=(-0.1, -2.0))  # type: ignore[arg-type]
    for decoding in ("free", "choice"):
        assert read_label(reply, ["no", "yes"], decoding) == read


@pytest.mark.parametrize(
    ("logprobs", "read"),
    [
        ((-2.0, -0.1), 1),
        ((-1.0, -1.0), 0),  # the first of equal ones, as in the votes
        ((-1.0, None), NO_LABEL),
        ((-1.0, -math.inf), NO_LABEL),
        (None, NO_LABEL),
    ],
)
def test_score_decoding_reads_the_likeliest_label(
    logprobs: tuple[float | None, ...] | None, read: int | Unparsed
) -> None:
    reply = Reply(0, "scored", 3, text="yes", label_logprobs=logprobs)
    assert read_label(reply, ["no", "yes"], "score") == read
