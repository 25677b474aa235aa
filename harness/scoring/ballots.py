"""From single replies to ballots: each is read as a label, or not.

A prompt may have several replies, one for each attempt. All are read and counted; together they are
one vote of the voter, the class that most of them name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from harness.scoring.accuracy import Ballots
from harness.scoring.labels import Replied
from harness.scoring.parsing import (
    NOT_PARSED,
    Unparsed,
    parse_lenient,
    parse_strict,
    summarise_parse,
)
from harness.scoring.voting import Scores, Votes, majority, votes_of_logprobs
from harness.summary import Parse


class Given(Protocol):
    """A prompt: `position` counts those of one voter and role."""

    @property
    def voter(self) -> int: ...
    @property
    def role(self) -> str: ...
    @property
    def position(self) -> int: ...
    @property
    def label(self) -> int: ...


def read_replies(
    prompts: Sequence[Given],
    replies: Mapping[tuple[int, int], Replied],
    words: Sequence[str],
    decoding: str,
    role: str = "query",
) -> tuple[Parse, Ballots]:
    """Parses and counts the votes. Calibration replies teach offsets and are not parsed: those of
    queries, as they stand behind the same examples.

    `prompts` are all of a run, `replies` those that there are, by the index of their prompt and
    their attempt; `words[c]` is the word for class c. Of several attempts the majority is the
    voter's vote; label log-probabilities, which do not depend on what was sampled, are those of
    the first. They decide a tie, else the order of the classes does.
    """
    scores = _logprobs(prompts, replies, role, len(words))
    offsets = _logprobs(prompts, replies, "calibration", len(words))
    if decoding == "score":
        parse, votes = NOT_PARSED, votes_of_logprobs(scores)
    else:
        parse, attempts = _parsed(prompts, replies, words, role)
        # A vote among the attempts is one among voters, of whom the first alone has scores.
        known = np.full((*attempts.shape, len(words)), np.nan)
        known[:, 0] = scores
        votes = majority(attempts, known, len(words))
    ballots = Ballots(
        truth=_truth(prompts, role),
        votes=votes,
        logprobs=None if np.isnan(scores).all() else scores,
        calibration_logprobs=None if role != "query" or np.isnan(offsets).all() else offsets,
    )
    return parse, ballots


def _shape(prompts: Sequence[Given], role: str) -> tuple[int, int]:
    """How many voters there are, and the most prompts of this role that one has."""
    # Of the prompts, not of the replies: a voter without any reply has a row too, an empty one.
    voters = 1 + max(prompt.voter for prompt in prompts)
    return voters, 1 + max((p.position for p in prompts if p.role == role), default=-1)


def _logprobs(
    prompts: Sequence[Given],
    replies: Mapping[tuple[int, int], Replied],
    role: str,
    n_classes: int,
) -> Scores:
    """Label log-probabilities (voters, prompts of this role, classes) of the first attempts.

    A row is NaN where there are none, or not those of all labels.
    """
    table = np.full((*_shape(prompts, role), n_classes), np.nan)
    for (index, attempt), reply in replies.items():
        prompt, logprobs = prompts[index], reply.label_logprobs
        # A label outside the engine's top k has no log-probability. Any number in its place would
        # be made up, so the row does not count.
        if prompt.role == role and attempt == 0 and logprobs and None not in logprobs:
            table[prompt.voter, prompt.position] = logprobs
    return table


def _parsed(
    prompts: Sequence[Given],
    replies: Mapping[tuple[int, int], Replied],
    words: Sequence[str],
    role: str,
) -> tuple[Parse, Votes]:
    """What was written, read as labels; the votes (voters, attempts, queries) are the lenient
    parser's."""
    voters, queries = _shape(prompts, role)
    attempts = 1 + max((attempt for _, attempt in replies), default=0)
    votes = np.full((voters, attempts, queries), -1, dtype=np.int64)
    strict: list[int | Unparsed] = []
    lenient: list[int | Unparsed] = []
    for (index, attempt), reply in replies.items():
        prompt = prompts[index]
        if prompt.role == role:
            cut_off = reply.finish == "length"
            strict.append(parse_strict(reply.text, words, cut_off))
            label = parse_lenient(reply.text, words, cut_off)
            lenient.append(label)
            if not isinstance(label, Unparsed):
                votes[prompt.voter, attempt, prompt.position] = label
    return (summarise_parse(strict, lenient) if strict else NOT_PARSED), votes


def _truth(prompts: Sequence[Given], role: str) -> Votes:
    """The class of each query, which is the same for all voters."""
    labels = {prompt.position: prompt.label for prompt in prompts if prompt.role == role}
    return np.array([labels[position] for position in sorted(labels)], dtype=np.int64)
