"""Is the other side better or worse, or is there no significant difference?

Shares (accuracy, parse rate) are compared by difference, over queries; speeds, times and other
positive figures by ratio, over samples in the order of time. Both an interval that leaves out "no
change" and a small adjusted p-value are needed for an outcome other than "no significant
difference"; what was counted, and not sampled, needs neither.

Samples of speed that follow one another are alike: what slows a machine down lasts for seconds.
Treated as independent, one pair of equal runs in five was called different. So their correlation is
estimated, and interval and p-value are widened by what it costs (`docs/METRICS.md`, "Differences").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from harness.metrics import Difference, Metric, Outcome
from harness.record import Measured, Span
from harness.stats.holm import holm

Values: TypeAlias = NDArray[np.float64]

ALPHA = 0.05
# If every sample of one side is above all of the other side, p is 0.048 with six on each side, and
# 0.10 with five.
LEAST_SAMPLES = 6  # of each side: fewer cannot reach ALPHA with the correlation they count with
# Neighbouring samples of 3.5 s had a correlation of 0.39, those two places apart of 0.1
# (docs/METRICS.md): shorter samples would be more alike, longer ones fewer.
SAMPLE_SECONDS = 5.0  # that a sample of a long run should last
SAMPLES = (8, 30)  # that a run should have: in a short one they are shorter, in a long one longer
_MOST_CORRELATION = 0.5
_ROUNDING = 1e-24  # a sum of squared deviations of logarithms that comes of rounding alone
_RESAMPLES = 4999  # with the observed one 5,000: SciPy counts it in a p-value
# 32 MiB as float64.
_AT_ONCE = 2**22  # numbers that are resampled together: bounds the memory
_SEED = 0  # fixed: two runs have the same outcome however often they are compared


@dataclass(frozen=True, slots=True)
class Work:
    """Samples (n,) of amounts and of what each took, such as tokens and seconds.

    The figure is the sum of the amounts over the sum of what they took.
    """

    amounts: Values
    took: Values

    @property
    def figure(self) -> float:
        return float(self.amounts.sum() / self.took.sum())

    @property
    def levels(self) -> Values:
        """The figure of each sample (n,)."""
        rates: Values = self.amounts / self.took
        return rates

    def resampled(self, places: NDArray[np.int64]) -> Values:
        """The figure (r,) of each row of sample numbers (r, n)."""
        figures: Values = self.amounts[places].sum(axis=-1) / self.took[places].sum(axis=-1)
        return figures


@dataclass(frozen=True, slots=True)
class Times:
    """Samples that are blocks of replies: of each block, in order, the time of each of its replies.

    The figure is the median over all replies. No block is empty, and no time is 0.
    """

    blocks: tuple[Values, ...]

    @property
    def figure(self) -> float:
        return float(np.median(np.concatenate(self.blocks)))

    @property
    def levels(self) -> Values:
        """The median of each block (n,)."""
        return np.array([np.median(block) for block in self.blocks], dtype=np.float64)

    def resampled(self, places: NDArray[np.int64]) -> Values:
        """The median (r,) over all replies of the blocks in each row of block numbers (r, n).

        A block that was drawn several times weighs as much: a weighted median, found by halving
        over all times in order of size, with the replies of each block counted up to each place.
        """
        count = len(self.blocks)
        times = np.concatenate(self.blocks)
        order = np.argsort(times, kind="stable")
        owner = np.repeat(np.arange(count), [len(block) for block in self.blocks])[order]
        # `up_to[b, i]`: how many of the first i + 1 times are of block b. With these counts nothing
        # is sorted again for each resample, which would take r times the memory of all replies.
        up_to = np.cumsum(owner == np.arange(count)[:, None], axis=1)  # (blocks, replies)
        weights = np.stack([(places == block).sum(axis=-1) for block in range(count)], axis=-1)
        # Blocks differ in their number of replies, and so do the totals of resamples.
        ordered, totals = times[order], weights @ up_to[:, -1]

        def at_rank(rank: NDArray[np.int64]) -> Values:
            """The time that so many others stand before."""
            low, high = np.zeros_like(rank), np.full_like(rank, len(ordered) - 1)
            while (low < high).any():
                middle = (low + high) // 2
                reached = (weights * up_to[:, middle].T).sum(axis=-1) > rank
                low, high = np.where(reached, low, middle + 1), np.where(reached, middle, high)
            found: Values = ordered[low]
            return found

        # As in numpy: between the two that stand beside the place, which may be one.
        places_of = (totals - 1) / 2
        below = np.floor(places_of).astype(np.int64)
        low, high = at_rank(below), at_rank(np.ceil(places_of).astype(np.int64))
        medians: Values = low + (places_of - below) * (high - low)
        return medians


Samples: TypeAlias = Values | Work | Times | float
"""What one side gives of a metric: (Q,) shares by query, blocks of work or of times, (n,) figures
of sessions, or the one figure of a count, as `Metric.kind` says."""


def difference(
    metric: Metric, first: Samples, other: Samples, paired: bool = False
) -> Difference | None:
    """How the other side differs from the first, by the kind of the metric.

    `None` where a side has no samples. Only shares can be `paired`.
    """
    match first, other:
        case Work(), Work():
            return ratio(metric, first, other)
        case Times(), Times():
            return ratio(metric, first, other)
        case np.ndarray(), np.ndarray() if metric.is_share:
            return share_difference(metric, first, other, paired)
        case np.ndarray(), np.ndarray():
            return ratio(metric, *(Work(side, np.ones(len(side))) for side in (first, other)))
        case float() | int(), float() | int():
            return counted(metric, first, other)
        case _:
            raise TypeError(f"{metric.name}: {type(first)} and {type(other)} cannot be compared")


def share_difference(
    metric: Metric, first: Values, other: Values, paired: bool
) -> Difference | None:
    """`other - first` of the means of what each query came to: a share between 0 and 1 (1 for a
    right verdict; or the share of its replies that could be read), NaN where it came to nothing.

    Paired sides (Q,) have the same queries in the same order, and those count that both answered.
    `None` where there are none.
    """
    known = [np.isfinite(side) for side in (first, other)]
    if paired:
        # The same queries on both sides, or their difference would be of other queries too.
        common = known[0] & known[1]
        known = [common, common]
    a, b = first[known[0]], other[known[1]]
    if not (len(a) and len(b)):
        return None
    interval: Span | None
    p_value: float | None
    if _binary(a) and _binary(b):
        if paired:
            better, worse = int((b > a).sum()), int((b < a).sum())
            test = "McNemar, exact"
            interval = _bonett_price(better, worse, len(a))
            p_value = _mcnemar(better, worse, len(a))
        else:
            test = "Fisher, exact"
            interval, p_value = _newcombe(a, b), _fisher(a, b)
    elif paired:
        test = "sign flips by query"
        # With one sample, SciPy's "samples" changes the signs of its values: if nothing changed, a
        # query is as likely to be better by x as worse by x.
        interval, p_value = _resampled((b - a,), _mean, "samples")
    else:
        test = "permutation of queries"
        # SciPy's "independent" deals all queries out again to the two sides.
        interval, p_value = _resampled((a, b), _mean_difference, "independent")
    means = float(a.mean()), float(b.mean())
    raw = Difference(
        metric=metric.name,
        kind="difference",
        paired=paired,
        first=means[0],
        other=means[1],
        change=means[1] - means[0],
        interval=interval,
        test=test,
        p_value=p_value,
        p_adjusted=p_value,
        samples=(len(a), len(b)),
        outcome=Outcome.TOO_FEW,  # stays if `_judged` finds no interval or no p-value
    )
    return _judged(metric, raw, p_value)


def ratio(metric: Metric, first: Work | Times, other: Work | Times) -> Difference | None:
    """`other / first` of two figures. `None` where a side has no samples.

    The interval is the percentile bootstrap of the ratio of the figures over whole samples,
    expanded for few samples (Hesterberg 2015, Am. Stat. 69, 371-386) and for serial correlation;
    the p-value is Mann and Whitney's (1947) of the samples' levels, with z divided by the same
    square root of the variance inflation.
    """
    counts = _count(first), _count(other)
    if not all(counts):
        return None
    interval, p_value = None, None
    if min(counts) >= LEAST_SAMPLES:
        inflation = variance_inflation(first.levels, other.levels)
        interval = _ratio_interval(first, other, inflation)
        p_value = _mann_whitney(first.levels, other.levels, inflation)
    raw = Difference(
        metric=metric.name,
        kind="ratio",
        paired=False,
        first=first.figure,
        other=other.figure,
        change=other.figure / first.figure,
        interval=interval,
        test="Mann-Whitney U",
        p_value=p_value,
        p_adjusted=p_value,
        samples=counts,
        outcome=Outcome.TOO_FEW,
    )
    return _judged(metric, raw, p_value)


def measured(side: Work) -> Measured | None:
    """The figure of one side with its interval, made as `ratio` makes that of two; `None` without
    samples."""
    if not _count(side):
        return None
    figure = side.figure
    if _count(side) < LEAST_SAMPLES:
        return Measured(value=figure)

    def log_figure(places: NDArray[np.int64], axis: int = -1) -> Values:
        assert axis == -1  # as in `_ratio_interval`
        logs: Values = np.log(side.resampled(places))
        return logs

    count = _count(side)
    plain = _bootstrap((np.arange(count),), log_figure)
    middle = np.log(figure)
    expansion = _expansion((count,), variance_inflation(side.levels))
    low, high = (middle + expansion * (end - middle) for end in (plain.low, plain.high))
    return Measured(value=figure, low=float(np.exp(low)), high=float(np.exp(high)))


def counted(metric: Metric, first: float, other: float) -> Difference | None:
    """`other / first` of what was counted: no chance is involved, so any difference is one.

    `None` where the first is 0 and the other is not: that has no ratio.
    """
    if first == 0 and other != 0:
        return None
    change = 1.0 if first == other else other / first
    return Difference(
        metric=metric.name,
        kind="ratio",
        paired=False,
        first=first,
        other=other,
        change=change,
        interval=None,
        test="counted",
        p_value=None,
        p_adjusted=None,
        samples=(1, 1),
        outcome=Outcome.SAME if first == other else _direction(metric, change > 1),
    )


def turned(one: Difference) -> Difference | None:
    """How the first side differs from the other. `None` where that has no ratio."""
    if one.kind == "ratio" and one.change == 0:
        return None

    def back(change: float) -> float:
        return 0.0 - change if one.kind == "difference" else 1 / change

    span = one.interval
    return one.model_copy(
        update={
            "first": one.other,
            "other": one.first,
            "change": back(one.change),
            "interval": Span(low=back(span.high), high=back(span.low)) if span else None,
            "samples": one.samples[::-1],
            "outcome": _TURNED.get(one.outcome, one.outcome),
        }
    )


_TURNED = {Outcome.BETTER: Outcome.WORSE, Outcome.WORSE: Outcome.BETTER}


def variance_inflation(*sides: Values) -> float:
    """How many times larger the variance of a mean is than it were of independent samples.

    `(1 + r) / (1 - r)`, of a first-order autoregression (Bayley and Hammersley 1946), with the
    correlation r of neighbours pooled over the sides, corrected for its bias in short series
    (Kendall 1954, Biometrika 41, 403-404). It counts as 0.5 at most, since larger ones of few
    samples are mostly chance; and as 2 / n at least, since n samples cannot show that there is none
    (without that, 9 % of pairs of equal runs of 25 s were called different).
    """
    # Each side from its own mean: a difference between the sides is no correlation. In logarithms,
    # so that a noise in per cent counts the same at any speed.
    logs = [np.log(side) - np.log(side).mean() for side in sides]
    variance = sum(float((log**2).sum()) for log in logs)
    # All samples are equal: a correlation of rounding errors means nothing.
    if variance < _ROUNDING:
        return 1.0
    r = sum(float((log[1:] * log[:-1]).sum()) for log in logs) / variance
    r += (1 + 3 * r) * len(sides) / sum(map(len, sides))
    r = min(max(r, 2 / min(map(len, sides))), _MOST_CORRELATION)
    return (1 + r) / (1 - r)


def adjusted(metric: Metric, differences: Sequence[Difference]) -> list[Difference]:
    """The same differences of one metric, with Holm's (1979) p-values."""
    tested = [one.p_value for one in differences if one.p_value is not None]
    if len(tested) < 2:  # there is nothing to correct for
        return list(differences)
    p_values = iter(holm(tested))
    return [
        _judged(metric, one, next(p_values)) if one.p_value is not None else one
        for one in differences
    ]


def cochran_q(shares: Sequence[Values]) -> float | None:
    """The p-value of Cochran's (1950) Q: that all sides are right equally often.

    `shares` are 0 or 1 for the same queries, NaN where there is none. `None` where no query tells
    the sides apart.
    """
    from statsmodels.stats.contingency_tables import cochrans_q

    table = np.column_stack(shares)
    table = table[np.isfinite(table).all(axis=1)]
    if not len(table) or not np.ptp(table, axis=1).any():
        return None
    return float(cochrans_q(table).pvalue)


def in_blocks(seconds: Values) -> NDArray[np.int64]:
    """For each of a run's batches, in order, the sample it belongs to: batches that follow one
    another, of about equal time. `seconds` (n,) is how long each had the engine busy."""
    fewest, most = SAMPLES
    if not seconds.sum():  # where every prompt was refused
        return np.zeros(len(seconds), dtype=np.int64)
    whole = seconds.sum()
    target = whole / np.clip(whole / SAMPLE_SECONDS, fewest, most)
    # the middle of each batch decides; one that took no time at the very end begins no block
    middles = np.minimum(np.cumsum(seconds) - seconds / 2, np.nextafter(whole, 0))
    _, blocks = np.unique(middles // target, return_inverse=True)
    return blocks.astype(np.int64)


def work_in_blocks(blocks: NDArray[np.int64], amounts: Values, seconds: Values) -> Work:
    """One sample for each block of batches (n,), so that the sums are those of all batches.

    A block in which nothing was done, or that took no time, has no rate: a request that began and
    ended while another one was open adds no second. What such a block has goes to the next one.
    """
    samples: list[tuple[float, float]] = []
    done = took = 0.0
    for amount, time in zip(*(np.bincount(blocks, one) for one in (amounts, seconds)), strict=True):
        done, took = done + amount, took + time
        if done > 0 and took > 0:
            samples.append((done, took))
            done = took = 0.0
    if samples:
        # No sample comes after it, and the sums have to stay those of all batches.
        samples[-1] = samples[-1][0] + done, samples[-1][1] + took
    table = np.array(samples, dtype=np.float64).reshape(-1, 2)
    return Work(table[:, 0], table[:, 1])


def _count(side: Work | Times) -> int:
    return len(side.took) if isinstance(side, Work) else len(side.blocks)


def _binary(values: Values) -> bool:
    return bool(np.isin(values, (0.0, 1.0)).all())


def _mcnemar(better: int, worse: int, n: int) -> float:
    from statsmodels.stats.contingency_tables import mcnemar

    # what did not change has no part in the test
    return float(mcnemar([[n - better - worse, better], [worse, 0]], exact=True).pvalue)


def _bonett_price(better: int, worse: int, n: int) -> Span:
    """An interval of a difference of paired shares: Wald's with one case added to either kind of
    change. Bonett and Price (2012), J. Educ. Behav. Stat. 37, 479-488."""
    from scipy.stats import norm

    up, down = (better + 1) / (n + 2), (worse + 1) / (n + 2)
    reach = norm.ppf(1 - ALPHA / 2) * np.sqrt((up + down - (up - down) ** 2) / (n + 2))
    return Span(low=float(max(up - down - reach, -1)), high=float(min(up - down + reach, 1)))


def _newcombe(a: Values, b: Values) -> Span:
    from statsmodels.stats.proportion import confint_proportions_2indep

    # statsmodels subtracts the second share from the first one, and we want other - first.
    low, high = confint_proportions_2indep(
        b.sum(), len(b), a.sum(), len(a), method="newcomb", compare="diff", alpha=ALPHA
    )
    return Span(low=float(low), high=float(high))


def _fisher(a: Values, b: Values) -> float:
    from scipy.stats import fisher_exact

    table = [[side.sum(), len(side) - side.sum()] for side in (a, b)]
    return float(fisher_exact(np.array(table, dtype=np.int64)).pvalue)


def _mean(values: Values, axis: int = -1) -> Values:
    mean: Values = values.mean(axis=axis)
    return mean


def _mean_difference(a: Values, b: Values, axis: int = -1) -> Values:
    return _mean(b, axis) - _mean(a, axis)


def _resampled(
    data: tuple[Values, ...], statistic: Any, kind: str
) -> tuple[Span | None, float | None]:
    """An interval and a p-value; `None` where a side has one value only."""
    # SciPy's bootstrap refuses a single value: it has no spread.
    if min(map(len, data)) < 2:
        return None, None
    return _bootstrap(data, statistic), _permutation(data, statistic, kind)


def _ratio_interval(first: Work | Times, other: Work | Times, inflation: float) -> Span:
    def log_ratio(i: NDArray[np.int64], j: NDArray[np.int64], axis: int = -1) -> Values:
        assert axis == -1  # of places, of which the last axis is that of one resample
        ratio: Values = np.log(other.resampled(j) / first.resampled(i))
        return ratio

    # places are drawn, so that what belongs to a sample stays together
    counts = _count(first), _count(other)
    plain = _bootstrap((np.arange(counts[0]), np.arange(counts[1])), log_ratio)
    # In logarithms, where a half is as far from 1 as a double; an expanded interval cannot reach
    # below 0 there.
    middle, expansion = np.log(other.figure / first.figure), _expansion(counts, inflation)
    low, high = (middle + expansion * (end - middle) for end in (plain.low, plain.high))
    return Span(low=float(np.exp(low)), high=float(np.exp(high)))


def _expansion(counts: tuple[int, ...], inflation: float) -> float:
    """The factor by which an interval by bootstrap is too narrow.

    It divides the samples' variance by n and not by n - 1, it has the quantile of the normal
    distribution where few samples need Student's t, and it treats the samples as independent.
    """
    from scipy.stats import norm, t

    deviates = t.ppf(1 - ALPHA / 2, sum(counts) - len(counts)) / norm.ppf(1 - ALPHA / 2)
    fewest = min(counts)
    return float(deviates * np.sqrt(inflation * fewest / (fewest - 1)))


def _bootstrap(data: tuple[NDArray[Any], ...], statistic: Any) -> Span:
    """The percentile interval (Efron 1979); of one value where all samples agree."""
    from scipy.stats import bootstrap

    interval = bootstrap(
        data,
        statistic,
        vectorized=True,  # one call for all resamples of a batch, not 4,999 calls
        n_resamples=_RESAMPLES,
        batch=_at_once(data),
        confidence_level=1 - ALPHA,
        method="percentile",
        rng=np.random.default_rng(_SEED),
    ).confidence_interval
    return Span(low=float(interval.low), high=float(interval.high))


def _permutation(data: tuple[Values, ...], statistic: Any, kind: Any) -> float:
    from scipy.stats import permutation_test

    found = permutation_test(
        data,
        statistic,
        permutation_type=kind,
        vectorized=True,
        n_resamples=_RESAMPLES,
        batch=_at_once(data),
        rng=np.random.default_rng(_SEED),
    )
    return float(found.pvalue)


def _at_once(data: tuple[NDArray[Any], ...]) -> int:
    """How many resamples are drawn together."""
    return max(1, _AT_ONCE // sum(map(len, data)))


def _mann_whitney(a: Values, b: Values, inflation: float) -> float:
    from scipy.stats import mannwhitneyu, norm

    # by the normal approximation: the exact distribution is that of independent samples
    two_sided = mannwhitneyu(a, b, method="asymptotic").pvalue
    return float(2 * norm.sf(norm.isf(two_sided / 2) / np.sqrt(inflation)))


def _judged(metric: Metric, one: Difference, p_adjusted: float | None) -> Difference:
    """The same with its outcome. Without a p-value, or an interval, there are too few samples."""
    if p_adjusted is None or one.interval is None:
        return one
    no_change = 0.0 if one.kind == "difference" else 1.0
    if p_adjusted >= ALPHA or one.interval.low <= no_change <= one.interval.high:
        outcome = Outcome.NO_SIGNIFICANT_DIFFERENCE
    else:
        outcome = _direction(metric, one.change > no_change)
    return one.model_copy(update={"p_adjusted": p_adjusted, "outcome": outcome})


def _direction(metric: Metric, more: bool) -> Outcome:
    return Outcome.BETTER if more == metric.more_is_better else Outcome.WORSE
