"""Whether entries agree: labels, label log-odds and verdicts on what both were given.

Prompts are matched by voter, role and position, and count where their texts are the same. `first`
and `other` may change places: the same is found.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from statistics import median

from harness.comparison.reading import Place, Read
from harness.comparison.records import (
    Agreement,
    LabelAgreement,
    LogOddsAgreement,
    OddsDifference,
    VerdictAgreement,
    VerdictDifference,
)
from harness.store.schema import PromptRow
from harness.summary import Caveat, CaveatKind

# In nats, between what was measured of two engines with the same file: right models had a median of
# up to 0.22 and a largest difference of up to 0.51; one with a wrong rotary base had 0.88 and 2.35.
# Larger runs have larger extremes, so there is room above (docs/METRICS.md, "Agreement").
MEDIAN_TOLERANCE = 0.3
LARGEST_TOLERANCE = 1.5
_FURTHEST = 5


def agreements(sides: Sequence[Read]) -> list[Agreement]:
    """Of each pair, in order."""
    return [agreement(first, other) for first, other in combinations(sides, 2)]


def agreement(first: Read, other: Read) -> Agreement:
    """How far two entries agree on what both were given."""
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
        # Other weights may differ by any amount: there is no tolerance for them.
        caveats=list(_caveats(log_odds)) if same_weights and log_odds else [],
    )


def log_odds_difference(first: Sequence[float], other: Sequence[float]) -> float:
    """The largest difference, over all pairs of labels, of the pair's log-odds, in nats.

    With d = first - other it is max d - min d: the log-odds of labels i and j differ by d_i - d_j.
    """
    differences = [one - two for one, two in zip(first, other, strict=True)]
    return max(differences) - min(differences)


def _labels(first: Read, other: Read, answered: Sequence[Place]) -> LabelAgreement:
    # Replies to calibration queries are not read as labels: only their log-probabilities count.
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


def _log_odds(first: Read, other: Read, answered: Sequence[Place]) -> LogOddsAgreement | None:
    """`None` where no prompt has log-probabilities from both."""
    differences = []
    for place in answered:
        one, two = first.answers[place].logprobs, other.answers[place].logprobs
        if one is not None and two is not None:
            differences.append((log_odds_difference(one, two), place))
    if not differences:
        return None
    # The place decides among equal differences, so that the answer is the same every time.
    furthest = sorted(differences, key=lambda pair: (-pair[0], pair[1]))[:_FURTHEST]
    return LogOddsAgreement(
        prompts=len(differences),
        median=median(difference for difference, _ in differences),
        largest=furthest[0][0],
        furthest=[
            _odds_difference(first.prompts[place], difference) for difference, place in furthest
        ],
    )


def _odds_difference(prompt: PromptRow, difference: float) -> OddsDifference:
    return OddsDifference(
        voter=prompt.voter,
        role=prompt.role,
        position=prompt.position,
        row=prompt.row,
        difference=difference,
    )


def _verdicts(first: Read, other: Read) -> VerdictAgreement:
    """A verdict belongs to all voters, so a query counts where all of them were given the same."""
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


def _query_texts(side: Read) -> dict[int, dict[int, str]]:
    """What each voter was given, by the position of the query."""
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
            figures={
                "median": log_odds.median,
                "largest": log_odds.largest,
                "median_tolerance": MEDIAN_TOLERANCE,
                "largest_tolerance": LARGEST_TOLERANCE,
            },
        )
