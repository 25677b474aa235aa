"""From votes to the accuracy part of the answer, with intervals.

A query without a verdict is not a wrong one: it is left out, and counted. Three votes are held
where they apply: "majority" of the single votes, "soft" (mean log-probability) and "calibrated"
(less each voter's leaning). The headline is the last of them that gives any verdict; of several
attempts at each prompt it is the majority, as the other two do not depend on what was sampled.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from math import comb

import numpy as np

from harness.record import Estimate
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
    without_leaning,
)
from harness.stats.intervals import clustered_bootstrap, wilson
from harness.summary import Accuracy, ByVoters

# The 7 voters of a default run have at most 35 subsets of one size, so all are taken there.
_MOST_SUBSETS = 64


@dataclass(frozen=True, slots=True)
class Ballots:
    """All that was voted: V voters, Q queries, K calibration queries, C classes.

    `truth` int64 (Q,), `votes` int64 (V, Q) with -1 for no vote, `logprobs` float64 (V, Q, C) and
    `calibration_logprobs` float64 (V, K, C) with NaN rows for missing ones. V and Q are at least 1.
    """

    truth: Votes
    votes: Votes
    logprobs: Scores | None
    calibration_logprobs: Scores | None


@dataclass(frozen=True, slots=True)
class _Evidence:
    """What each voter gives to each vote, so that it is worked out once for all subsets.

    `votes` (V, Q); `scores` (V, Q, C) under "soft" and "calibrated", as far as these apply.
    """

    votes: Votes
    scores: dict[str, Scores]


@dataclass(frozen=True, slots=True)
class _Figures:
    """What the headline's verdicts say beyond their share of right ones."""

    balanced: float | None
    f1: float | None
    auc: float | None
    confusion: list[list[int]] | None


def score_accuracy(
    ballots: Ballots, classes: tuple[str, ...], seed: int, is_sampled: bool = False
) -> Accuracy:
    """The accuracy of single voters and of each vote. `seed` is for resampling and subsets.
    `is_sampled`: the votes are those of several sampled replies.

    `balanced` (mean recall of the classes that were the truth), `f1` (macro) and `auc` (macro, one
    class against the rest) are the headline's, over the queries that it answered; `None` where
    these are of fewer than two classes. None of them needs a class to be called the positive one.
    """
    truth, evidence = ballots.truth, _evidence(ballots)
    voters = np.arange(len(ballots.votes))
    held = _hold_votes(evidence, len(classes), voters)
    estimates = {vote: _estimate(verdict, truth) for vote, verdict in held.items()}
    headline = "majority" if is_sampled else _headline(estimates)
    answered = _answered(held[headline])
    figures = _figures(truth, held[headline], _probabilities(headline, evidence, len(classes)))
    # Not 1 / classes: naming the most frequent class every time is right this often.
    chance = float(np.bincount(truth).max() / len(truth))
    return Accuracy(
        queries=len(truth),
        answered=answered,
        chance=chance,
        headline=headline,
        single=_single(ballots, seed),
        majority=estimates["majority"],
        soft=estimates.get("soft"),
        calibrated=estimates.get("calibrated"),
        by_voters=[
            _by_voters(evidence, truth, len(classes), _subsets(len(voters), size, seed))
            for size in range(1, len(voters) + 1)
        ],
        balanced=figures.balanced,
        f1=figures.f1,
        auc=figures.auc,
        voter_agreement=agreement(ballots.votes),
        classes=list(classes),
        confusion=figures.confusion,
    )


def hold_vote(vote: str, ballots: Ballots, n_classes: int) -> Votes:
    """The verdicts (Q,) of one of the votes, such as the headline; -1 where there is none."""
    every_voter = np.arange(len(ballots.votes))
    return _hold_votes(_evidence(ballots), n_classes, every_voter)[vote]


def covers_chance(accuracy: Accuracy) -> bool:
    """Whether the headline's interval holds the chance level; false where there is no verdict."""
    estimate = {
        "majority": accuracy.majority,
        "soft": accuracy.soft,
        "calibrated": accuracy.calibrated,
    }[accuracy.headline]
    return estimate is not None and _covers(estimate, accuracy.chance)


def _covers(estimate: Estimate, chance: float) -> bool:
    return estimate.low <= chance <= estimate.high


def _evidence(ballots: Ballots) -> _Evidence:
    logprobs, calibration = ballots.logprobs, ballots.calibration_logprobs
    scores: dict[str, Scores] = {}
    if logprobs is not None:
        scores["soft"] = normalised(logprobs)
        if calibration is not None:
            scores["calibrated"] = without_leaning(logprobs, voter_offsets(calibration))
    return _Evidence(ballots.votes, scores)


def _hold_votes(evidence: _Evidence, n_classes: int, voters: Votes) -> dict[str, Votes]:
    """The verdicts (..., Q) of each vote that applies, among the voters with indices (..., k)."""
    scores = {vote: values[voters] for vote, values in evidence.scores.items()}
    # normalising takes the same from all classes: it breaks ties as the raw log-probabilities do
    held = {"majority": majority(evidence.votes[voters], scores.get("soft"), n_classes)}
    return held | {vote: verdicts(pooled(values)) for vote, values in scores.items()}


def _answered(verdict: Votes) -> int:
    return int((verdict >= 0).sum())


def _estimate(verdict: Votes, truth: Votes) -> Estimate | None:
    answered = _answered(verdict)
    return wilson(int((verdict == truth).sum()), answered) if answered else None


def _headline(estimates: dict[str, Estimate | None]) -> str:
    return next((vote for vote in ("calibrated", "soft") if estimates.get(vote)), "majority")


def _single(ballots: Ballots, seed: int) -> Estimate | None:
    voted = ballots.votes >= 0
    correct = np.where(voted, ballots.votes == ballots.truth, np.nan)
    return clustered_bootstrap(correct, seed) if voted.any() else None


def _by_voters(evidence: _Evidence, truth: Votes, n_classes: int, subsets: Votes) -> ByVoters:
    held = _hold_votes(evidence, n_classes, subsets)
    means = {vote: _mean_accuracy(verdict, truth) for vote, verdict in held.items()}
    return ByVoters(
        voters=subsets.shape[-1],
        majority=means["majority"],
        soft=means.get("soft"),
        calibrated=means.get("calibrated"),
    )


def _subsets(n: int, size: int, seed: int) -> Votes:
    """All subsets (S, size) of n voters, or 64 different random ones where there are more."""
    if comb(n, size) <= _MOST_SUBSETS:
        return np.array(list(combinations(range(n), size)))
    # A stream for each size: its subsets do not depend on what was drawn for other sizes.
    rng = np.random.default_rng((seed, size))
    # Different ones: a subset that is drawn twice would tell nothing more.
    drawn: set[tuple[int, ...]] = set()
    while len(drawn) < _MOST_SUBSETS:
        drawn.add(tuple(sorted(rng.choice(n, size, replace=False).tolist())))
    return np.array(sorted(drawn))


def _mean_accuracy(verdict: Votes, truth: Votes) -> float | None:
    """Mean over subsets of the accuracy of verdicts (S, Q); one without any verdict is left out."""
    answered = (verdict >= 0).sum(axis=-1)
    right = (verdict == truth).sum(axis=-1)[answered > 0]
    return float((right / answered[answered > 0]).mean()) if right.size else None


def _probabilities(headline: str, evidence: _Evidence, n_classes: int) -> Scores:
    """What ranks the queries for the area under the curve (Q, C): the vote's own certainty."""
    from scipy.special import softmax

    if headline == "majority":
        return vote_shares(evidence.votes, n_classes)
    return np.asarray(softmax(pooled(evidence.scores[headline]), axis=-1))


def _figures(truth: Votes, verdict: Votes, probabilities: Scores) -> _Figures:
    """The figures over the answered queries, as scikit-learn defines them."""
    from sklearn.metrics import confusion_matrix, f1_score, recall_score

    answered = verdict >= 0
    if not answered.any():
        return _Figures(balanced=None, f1=None, auc=None, confusion=None)
    truth, verdict, probabilities = truth[answered], verdict[answered], probabilities[answered]
    confusion = confusion_matrix(truth, verdict, labels=range(probabilities.shape[-1])).tolist()
    present = np.unique(truth)
    if len(present) == 1:
        return _Figures(balanced=None, f1=None, auc=None, confusion=confusion)
    return _Figures(
        # balanced_accuracy_score is this too, but warns of a verdict that was never the truth
        balanced=float(recall_score(truth, verdict, labels=present, average="macro")),
        f1=float(f1_score(truth, verdict, average="macro")),
        auc=_auc(truth, probabilities),
        confusion=confusion,
    )


def _auc(truth: Votes, probabilities: Scores) -> float:
    """Mean over the classes of the truth of the area under the curve of each against the rest."""
    from sklearn.metrics import roc_auc_score

    # scikit-learn's multi_class="ovr" raises an error if a class is never the truth.
    areas = [roc_auc_score(truth == c, probabilities[:, c]) for c in np.unique(truth)]
    return float(np.mean(areas))
