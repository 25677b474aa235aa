"""Whether backends agree: labels, label log-odds and verdicts on what both were asked.

Prompts are matched by voter, role and position, and count where their texts are the same. `first`
and `other` may change places: the same is found.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import median
from typing import Protocol, TypeAlias

from harness.comparison.records import (
    Agreement,
    CellDifference,
    LabelAgreement,
    LogOddsAgreement,
    Member,
    VerdictAgreement,
    VerdictDifference,
)
from harness.scoring import ballots
from harness.scoring.accuracy import hold_vote
from harness.summary import Caveat, CaveatKind

# In nats. What was measured, and why these: docs/METRICS.md, "Agreement".
MEDIAN_TOLERANCE = 0.3
LARGEST_TOLERANCE = 1.5
_FURTHEST = 5

Place: TypeAlias = tuple[int, str, int]


class Asked(ballots.Asked, Protocol):
    """A prompt as it was kept. `row` is the place of its embedding in its split of the dataset."""

    @property
    def row(self) -> int: ...
    @property
    def text_sha256(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Answer:
    """What a reply came to. Null: no label could be read, or the engine gave no log-probabilities.

    Replies to calibration queries are not read.
    """

    label: str | None
    logprobs: tuple[float, ...] | None


@dataclass(frozen=True, slots=True)
class Side:
    """One backend of one run.

    `answers` holds those prompts that were answered, `verdicts` those positions of queries that
    got a verdict by `vote`. Classes go by their names.
    """

    member: Member
    model_sha256: str | None
    prompts: Mapping[Place, Asked]
    answers: Mapping[Place, Answer]
    vote: str
    verdicts: Mapping[int, str]


@dataclass(frozen=True, slots=True)
class Reading:
    """How a run read its replies: classes and their words in the same order, and its headline."""

    classes: Sequence[str]
    words: Sequence[str]
    decoding: str
    vote: str


def make_side(
    member: Member,
    model_sha256: str | None,
    prompts: Sequence[Asked],
    replies: Mapping[int, ballots.Replied],
    reading: Reading,
) -> Side:
    """Reads the replies, which go by the index of their prompt, as the run did for its summary."""
    classes, vote = reading.classes, reading.vote
    _, cast = ballots.read_replies(prompts, replies, reading.words, reading.decoding)
    answers = {}
    for index, reply in replies.items():
        prompt = prompts[index]
        is_query = prompt.role == "query"
        label = int(cast.votes[prompt.voter, prompt.position]) if is_query else -1
        answers[_place(prompt)] = Answer(_name(classes, label), _finite(reply.label_logprobs))
    held = enumerate(hold_vote(vote, cast, len(classes)).tolist())
    return Side(
        member=member,
        model_sha256=model_sha256,
        prompts={_place(prompt): prompt for prompt in prompts},
        answers=answers,
        vote=vote,
        verdicts={position: classes[verdict] for position, verdict in held if verdict >= 0},
    )


def agreements(sides: Sequence[Side]) -> list[Agreement]:
    """Of each pair, in order."""
    return [agreement(first, other) for first, other in combinations(sides, 2)]


def agreement(first: Side, other: Side) -> Agreement:
    """How far two backends agree on what both were asked."""
    common = [
        place
        for place, prompt in first.prompts.items()
        if place in other.prompts and other.prompts[place].text_sha256 == prompt.text_sha256
    ]
    answered = [place for place in common if place in first.answers and place in other.answers]
    same_weights = first.model_sha256 is not None and first.model_sha256 == other.model_sha256
    log_odds = _log_odds(first, other, answered)
    return Agreement(
        first=first.member,
        other=other.member,
        prompts=len(common),
        same_weights=same_weights,
        labels=_labels(first, other, answered),
        log_odds=log_odds,
        verdicts=_verdicts(first, other),
        caveats=list(_caveats(log_odds)) if same_weights and log_odds else [],
    )


def log_odds_difference(first: Sequence[float], other: Sequence[float]) -> float:
    """The largest difference, over all pairs of labels, of the pair's log-odds, in nats.

    With d = first - other it is max d - min d: the log-odds of labels i and j differ by d_i - d_j.
    """
    differences = [one - two for one, two in zip(first, other, strict=True)]
    return max(differences) - min(differences)


def _labels(first: Side, other: Side, answered: Sequence[Place]) -> LabelAgreement:
    queries = [place for place in answered if place[1] == "query"]
    pairs = [(first.answers[place].label, other.answers[place].label) for place in queries]
    read = [(one, two) for one, two in pairs if one is not None and two is not None]
    return LabelAgreement(
        answered=len(pairs),
        unread_first=sum(one is None for one, _ in pairs),
        unread_other=sum(two is None for _, two in pairs),
        read=len(read),
        share=sum(one == two for one, two in read) / len(read) if read else None,
    )


def _log_odds(first: Side, other: Side, answered: Sequence[Place]) -> LogOddsAgreement | None:
    """Null where no prompt has log-probabilities from both."""
    differences = []
    for place in answered:
        one, two = first.answers[place].logprobs, other.answers[place].logprobs
        if one is not None and two is not None:
            differences.append((log_odds_difference(one, two), place))
    if not differences:
        return None
    furthest = sorted(differences, key=lambda pair: (-pair[0], pair[1]))[:_FURTHEST]
    return LogOddsAgreement(
        cells=len(differences),
        median=median(difference for difference, _ in differences),
        largest=furthest[0][0],
        furthest=[_cell(first.prompts[place], difference) for difference, place in furthest],
    )


def _cell(prompt: Asked, difference: float) -> CellDifference:
    return CellDifference(
        voter=prompt.voter,
        role=prompt.role,
        position=prompt.position,
        row=prompt.row,
        difference=difference,
    )


def _verdicts(first: Side, other: Side) -> VerdictAgreement:
    """A verdict belongs to all voters, so a query counts where all of them were asked the same."""
    texts, other_texts = _query_texts(first), _query_texts(other)
    queries = [
        position
        for position in sorted(first.verdicts.keys() & other.verdicts.keys())
        if texts[position] == other_texts[position]
    ]
    return VerdictAgreement(
        first_vote=first.vote,
        other_vote=other.vote,
        queries=len(queries),
        differing=[
            VerdictDifference(
                position=position,
                row=first.prompts[0, "query", position].row,
                first=first.verdicts[position],
                other=other.verdicts[position],
            )
            for position in queries
            if first.verdicts[position] != other.verdicts[position]
        ],
    )


def _query_texts(side: Side) -> dict[int, dict[int, str]]:
    """What each voter was asked, by the position of the query."""
    texts: dict[int, dict[int, str]] = {}
    for (voter, role, position), prompt in side.prompts.items():
        if role == "query":
            texts.setdefault(position, {})[voter] = prompt.text_sha256
    return texts


def _caveats(log_odds: LogOddsAgreement) -> Iterator[Caveat]:
    """Of two that read the same weights."""
    if log_odds.median > MEDIAN_TOLERANCE or log_odds.largest > LARGEST_TOLERANCE:
        yield Caveat(
            kind=CaveatKind.ENGINES_DISAGREE,
            message="They read the same weights, and their label log-odds are "
            f"{log_odds.median:.2f} apart in the median and {log_odds.largest:.2f} at most; "
            f"{MEDIAN_TOLERANCE} and {LARGEST_TOLERANCE} are tolerated.",
            advice="That is more than rounding explains: look at their tokens, their precision and "
            "their versions before you compare their accuracy.",
        )


def _place(prompt: Asked) -> Place:
    return prompt.voter, prompt.role, prompt.position


def _name(classes: Sequence[str], label: int) -> str | None:
    return classes[label] if label >= 0 else None


def _finite(logprobs: Sequence[float] | None) -> tuple[float, ...] | None:
    """Null where a number is infinite or missing: such a row has no log-odds."""
    known = logprobs is not None and all(map(math.isfinite, logprobs))
    return tuple(logprobs) if logprobs is not None and known else None
