"""What the replies of a stored entry come to: labels and verdicts, read as its run read them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias
from weakref import WeakKeyDictionary

from harness.comparison.records import Member
from harness.contract import Reply
from harness.scoring.accuracy import hold_vote
from harness.scoring.ballots import read_replies
from harness.store.runs import StoredEntry
from harness.store.schema import PromptRow
from harness.summary import RunSummary

Place: TypeAlias = tuple[int, str, int]
"""Voter, role and position of a prompt."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a prompt came to: the label that its voter gives by it, and the log-probabilities of its
    first reply. `None`: no label could be read, or the engine reports no log-probabilities.

    Replies to calibration prompts are not read.
    """

    label: str | None
    logprobs: tuple[float, ...] | None


@dataclass(frozen=True, slots=True)
class Read:
    """One entry of one run.

    `answers` holds those prompts that were answered, `verdicts` those positions of queries that
    got a verdict by `vote`. Classes go by their names.
    """

    member: Member
    model_sha256: str | None
    prompts: Mapping[Place, PromptRow]
    answers: Mapping[Place, Answer]
    vote: str
    verdicts: Mapping[int, str]


# Weak: what was read is freed with its entry.
_READ: WeakKeyDictionary[StoredEntry, Read] = WeakKeyDictionary()  # a stored entry never changes


def read_entry(entry: StoredEntry) -> Read:
    """What is read once for each entry, however many metrics and pairs it is in."""
    if entry not in _READ:
        _READ[entry] = read(
            Member(
                run_id=entry.run.run_id,
                entry=entry.name,
                backend=entry.backend,
                run_name=entry.run.name,
            ),
            entry.sessions[0].model_sha256 if entry.sessions else None,
            entry.run.prompts,
            entry.replies,
            entry.summary,
            entry.run.spec.decoding,
        )
    return _READ[entry]


def read(
    member: Member,
    model_sha256: str | None,
    prompts: Sequence[PromptRow],
    replies: Mapping[tuple[int, int], Reply],
    run: RunSummary,
    decoding: str,
) -> Read:
    """Reads the replies, which go by the index of their prompt and the attempt, as the run did for
    its summary: with its label words, its classes and its headline vote."""
    classes, vote = run.accuracy.classes, run.accuracy.headline
    _, cast = read_replies(prompts, replies, run.label_words, decoding)
    answers = {}
    # Each prompt once, whatever the number of its attempts.
    for index in dict.fromkeys(index for index, _ in replies):
        prompt, reply = prompts[index], replies.get((index, 0))
        is_query = prompt.role == "query"
        label = int(cast.votes[prompt.voter, prompt.position]) if is_query else -1
        answers[place_of(prompt)] = Answer(
            label=classes[label] if label >= 0 else None,
            logprobs=_finite(reply.label_logprobs) if reply else None,
        )
    # The headline of the run, not one chosen again: the same verdicts as in its summary.
    held = enumerate(hold_vote(vote, cast, len(classes)).tolist())
    return Read(
        member=member,
        model_sha256=model_sha256,
        prompts={place_of(prompt): prompt for prompt in prompts},
        answers=answers,
        vote=vote,
        verdicts={position: classes[verdict] for position, verdict in held if verdict >= 0},
    )


def place_of(prompt: PromptRow) -> Place:
    return prompt.voter, prompt.role, prompt.position


def _finite(logprobs: Sequence[float | None] | None) -> tuple[float, ...] | None:
    """`None` where a number is infinite or missing: such a row has no log-odds."""
    if logprobs is None:
        return None
    known = tuple(one for one in logprobs if one is not None and math.isfinite(one))
    return known if len(known) == len(logprobs) else None
