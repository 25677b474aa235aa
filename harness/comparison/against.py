"""Is the model better than the baselines? Each of them over the same queries."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from harness.comparison.metrics import METRICS
from harness.stats.significance import adjusted, share_difference
from harness.summary import SHUFFLED, Baseline, BaselineTest


def against_baselines(
    truth: NDArray[np.int64],
    verdicts: NDArray[np.int64],
    baselines: Sequence[Baseline],
    shuffled: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None,
) -> list[BaselineTest]:
    """An entry's verdicts against each baseline, which is the first side of the difference.

    `truth` and `verdicts` (Q,) are classes in the order of the queries, as the predictions of the
    baselines are; a verdict is -1 where there is none, and such a query does not count. `shuffled`
    are the entry's verdicts by a vote that there is behind shuffled labels too, and those behind
    shuffled labels: one baseline more. McNemar's exact test, with Holm's correction over the
    baselines. Left out are baselines without predictions, and all of them where no query has a
    verdict.
    """
    metric = METRICS["accuracy"]

    # NaN, not 0: a query without a verdict is not a wrong one, and leaves the pair.
    def right(verdicts: NDArray[np.int64]) -> NDArray[np.float64]:
        return np.where(verdicts >= 0, verdicts == truth, np.nan)

    sides = {
        one.name: (verdicts, np.array(one.predictions))
        for one in baselines
        if one.predictions is not None
    }
    if shuffled is not None:
        sides[SHUFFLED] = shuffled
    tested = {
        name: found
        for name, (own, theirs) in sides.items()
        if (found := share_difference(metric, right(theirs), right(own), paired=True))
    }
    return [
        BaselineTest(baseline=name, difference=one)
        for name, one in zip(tested, adjusted(metric, list(tested.values())), strict=True)
    ]
