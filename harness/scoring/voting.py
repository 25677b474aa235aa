"""Many voters, one verdict: pure functions over arrays.

Shapes: V voters, Q queries, C classes; any leading axes (subsets of voters) stay. `votes` is
int64 (..., V, Q) with -1 for no vote. `logprobs` is float64 (..., V, Q, C), natural logarithms; a
row with a number that is not finite is missing. `scores` is float64 (..., Q, C), higher is better,
NaN where no voter has any.

No verdict depends on the order of the voters. Sums of floats would, in their last bits, and so
would ties; sums over voters are therefore taken in whole multiples of 2^-30 nats, which float64
adds exactly up to 2^23 nats.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Votes: TypeAlias = NDArray[np.int64]
Scores: TypeAlias = NDArray[np.float64]

_STEPS_PER_NAT = 2.0**30


def majority(votes: Votes, logprobs: Scores | None, n_classes: int) -> Votes:
    """The class with the most votes (..., Q); -1 where nobody voted.

    Among tied classes it is the one with the larger sum of log-probabilities over the voters; if
    these are equal too, or not recorded, the first in class order.
    """
    counts = vote_counts(votes, n_classes)
    totals = np.zeros(counts.shape) if logprobs is None else _sum_over_voters(_known(logprobs))
    tied = counts == counts.max(axis=-1, keepdims=True)
    # The sum takes NaN for 0, so one that is not known breaks no tie: `argmax` then takes the first
    # of the tied classes.
    winner = np.where(tied, totals, -np.inf).argmax(axis=-1)
    return np.where(counts.any(axis=-1), winner, -1)


def vote_counts(votes: Votes, n_classes: int) -> Votes:
    """How many voters gave each class (..., Q, C)."""
    counts: Votes = (votes[..., np.newaxis] == np.arange(n_classes)).sum(axis=-3)
    return counts


def vote_shares(votes: Votes, n_classes: int) -> Scores:
    """The share of each class in the votes of a query (..., Q, C); NaN where nobody voted."""
    counts = vote_counts(votes, n_classes)
    return _divide(counts, counts.sum(axis=-1, keepdims=True))


def normalised(logprobs: Scores) -> Scores:
    """Log-probabilities among the labels only (..., V, Q, C): what a voter gives to the soft vote.

    `pooled`, they are the logarithmic opinion pool with equal weights: Genest and Zidek (1986),
    Statistical Science 1, 114-135.
    """
    from scipy.special import log_softmax

    return np.asarray(log_softmax(_known(logprobs), axis=-1))


def without_leaning(logprobs: Scores, offsets: Scores) -> Scores:
    """Centred log-ratios (V, Q, C) less each voter's offset (V, C), from `voter_offsets`.

    What a voter gives to the calibrated vote; one without an offset gives nothing (NaN).
    """
    return _centred(logprobs) - offsets[:, np.newaxis, :]


def pooled(values: Scores) -> Scores:
    """The mean (..., Q, C) over the voters that have a row; NaN where none has."""
    return _divide(_sum_over_voters(values), np.isfinite(values).sum(axis=-3))


def voter_offsets(calibration_logprobs: Scores) -> Scores:
    """Each voter's leaning (V, C): its median centred log-ratio over K calibration queries.

    `calibration_logprobs` is (V, K, C). A centred log-ratio is log p_c minus its mean over classes
    (Aitchison (1982), JRSS B 44, 139-177); for two classes it is half the log-odds. NaN where a
    voter has no calibration query.
    """
    return np.array([_median_row(rows) for rows in _centred(calibration_logprobs)])


def verdicts(scores: Scores) -> Votes:
    """The best class (..., Q), the first one on ties; -1 where the scores are NaN."""
    # `argmax` would take a NaN for the largest.
    known = np.isfinite(scores).all(axis=-1)
    return np.where(known, scores.argmax(axis=-1), -1)


def votes_of_logprobs(logprobs: Scores) -> Votes:
    """The single votes (..., V, Q) in `score` decoding, where nothing is parsed."""
    return verdicts(logprobs)


def agreement(votes: Votes) -> float | None:
    """Share of equal votes among all pairs of voters that both voted; `None` without such a pair.

    `votes` is (V, Q); the pairs of all queries are counted together.
    """
    counts = vote_counts(votes, int(votes.max(initial=-1)) + 1)
    pairs = _pairs(counts.sum(axis=-1)).sum()
    return float(_pairs(counts).sum() / pairs) if pairs else None


def _pairs(n: Votes) -> Votes:
    return n * (n - 1) // 2


def _known(logprobs: Scores) -> Scores:
    """The same with NaN for the whole of a row that is not finite."""
    return np.where(np.isfinite(logprobs).all(axis=-1, keepdims=True), logprobs, np.nan)


def _centred(logprobs: Scores) -> Scores:
    known = _known(logprobs)
    return np.asarray(known - known.mean(axis=-1, keepdims=True))


def _median_row(rows: Scores) -> Scores:
    """The median (C,) of the rows (K, C) that are known; NaN without any."""
    known = rows[np.isfinite(rows).all(axis=-1)]
    return np.median(known, axis=0) if len(known) else np.full(rows.shape[-1], np.nan)


def _sum_over_voters(values: Scores) -> Scores:
    """The sum (..., Q, C) of what is not NaN, exact in any order (see the module's docstring)."""
    # Whole numbers below 2^53 add without rounding, so the order of the voters has no influence.
    total: Scores = np.nansum(np.rint(values * _STEPS_PER_NAT), axis=-3) / _STEPS_PER_NAT
    return total


def _divide(total: NDArray[np.generic], by: Votes) -> Scores:
    return np.asarray(np.divide(total, by, out=np.full(total.shape, np.nan), where=by > 0))
