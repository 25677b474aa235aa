"""The label that is read from a single reply.

A run's figures are made of the same reading (`harness.scoring.ballots`), in arrays.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from harness.scoring.parsing import Unparsed, UnparsedReason, parse_lenient
from harness.scoring.voting import votes_of_logprobs


class Replied(Protocol):
    """A reply, as in `backends.api.Reply`."""

    @property
    def finish(self) -> str: ...
    @property
    def text(self) -> str: ...
    @property
    def label_logprobs(self) -> Sequence[float | None] | None: ...


def read_label(reply: Replied, words: Sequence[str], decoding: str) -> int | Unparsed:
    """The index of the class that a reply names; `words[c]` is the word for class c.

    In `score` decoding it is the likeliest label, and there is none where a log-probability is
    missing.
    """
    if decoding != "score":
        return parse_lenient(reply.text, words, reply.finish == "length")
    logprobs = reply.label_logprobs or ()
    row = np.array([[[np.nan if one is None else one for one in logprobs]]], dtype=np.float64)
    vote = int(votes_of_logprobs(row)[0, 0]) if logprobs else -1
    return Unparsed(UnparsedReason.NO_LABEL) if vote < 0 else vote
