"""From single replies to ballots: each is read as a label, or not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from harness.scoring.accuracy import Ballots
from harness.scoring.parsing import (
    NOT_PARSED,
    Unparsed,
    parse_lenient,
    parse_strict,
    summarise_parse,
)
from harness.scoring.voting import Scores, Votes, votes_of_logprobs
from harness.summary import Parse


class Asked(Protocol):
    """A prompt: `position` counts those of one voter and role."""

    @property
    def voter(self) -> int: ...
    @property
    def role(self) -> str: ...
    @property
    def position(self) -> int: ...
    @property
    def label(self) -> int: ...


class Replied(Protocol):
    """A reply, as in `backends.api.Reply`."""

    @property
    def finish(self) -> str: ...
    @property
    def text(self) -> str: ...
    @property
    def label_logprobs(self) -> Sequence[float] | None: ...


def read_replies(
    prompts: Sequence[Asked], replies: Mapping[int, Replied], words: Sequence[str], decoding: str
) -> tuple[Parse, Ballots]:
    """Parses and counts the votes. Calibration replies teach offsets and are not parsed.

    `prompts` are all of a run, `replies` those that there are, by the index of their prompt;
    `words[c]` is the word for class c.
    """
    scores = _logprobs(prompts, replies, "query", len(words))
    offsets = _logprobs(prompts, replies, "calibration", len(words))
    if decoding == "score":
        parse, votes = NOT_PARSED, votes_of_logprobs(scores)
    else:
        parse, votes = _parsed(prompts, replies, words)
    ballots = Ballots(
        truth=_truth(prompts),
        votes=votes,
        logprobs=None if np.isnan(scores).all() else scores,
        calibration_logprobs=None if np.isnan(offsets).all() else offsets,
    )
    return parse, ballots


def _shape(prompts: Sequence[Asked], role: str) -> tuple[int, int]:
    """How many voters there are, and the most prompts of this role that one has."""
    voters = 1 + max(prompt.voter for prompt in prompts)
    return voters, 1 + max((p.position for p in prompts if p.role == role), default=-1)


def _logprobs(
    prompts: Sequence[Asked], replies: Mapping[int, Replied], role: str, n_classes: int
) -> Scores:
    """Label log-probabilities (voters, prompts of this role, classes); NaN where there are none."""
    table = np.full((*_shape(prompts, role), n_classes), np.nan)
    for index, reply in replies.items():
        prompt = prompts[index]
        if prompt.role == role and reply.label_logprobs is not None:
            table[prompt.voter, prompt.position] = reply.label_logprobs
    return table


def _parsed(
    prompts: Sequence[Asked], replies: Mapping[int, Replied], words: Sequence[str]
) -> tuple[Parse, Votes]:
    """What was written, read as labels; the votes are the lenient parser's."""
    votes = np.full(_shape(prompts, "query"), -1, dtype=np.int64)
    strict: list[int | Unparsed] = []
    lenient: list[int | Unparsed] = []
    for index, reply in replies.items():
        prompt = prompts[index]
        if prompt.role == "query":
            cut_off = reply.finish == "length"
            strict.append(parse_strict(reply.text, words, cut_off))
            label = parse_lenient(reply.text, words, cut_off)
            lenient.append(label)
            if not isinstance(label, Unparsed):
                votes[prompt.voter, prompt.position] = label
    return (summarise_parse(strict, lenient) if strict else NOT_PARSED), votes


def _truth(prompts: Sequence[Asked]) -> Votes:
    """The class of each query, which is the same for all voters."""
    labels = {prompt.position: prompt.label for prompt in prompts if prompt.role == "query"}
    return np.array([labels[position] for position in sorted(labels)], dtype=np.int64)
