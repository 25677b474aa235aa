"""Is the model better than the baselines? Each of them over the same queries."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from harness.comparison.metrics import METRICS
from harness.stats.significance import adjusted, share_difference
from harness.summary import Baseline, BaselineTest


def against_baselines(
    truth: NDArray[np.int64], verdicts: NDArray[np.int64], baselines: Sequence[Baseline]
) -> list[BaselineTest]:
    """An entry's verdicts against each baseline, which is the first side of the difference.

    `truth` and `verdicts` (Q,) are classes in the order of the queries, as the predictions of the
    baselines are; a verdict is -1 where there is none, and such a query does not count. McNemar's
    exact test, with Holm's correction over the baselines. Left out are baselines without
    predictions, and all of them where no query has a verdict.
    """
    metric = METRICS["accuracy"]
    # NaN, not 0: a query without a verdict is not a wrong one, and leaves the pair.
    right = np.where(verdicts >= 0, verdicts == truth, np.nan)
    tested = {}
    for baseline in baselines:
        if baseline.predictions is not None:
            theirs = (np.array(baseline.predictions) == truth).astype(np.float64)
            if found := share_difference(metric, theirs, right, paired=True):
                tested[baseline.name] = found
    return [
        BaselineTest(baseline=name, difference=one)
        for name, one in zip(tested, adjusted(metric, list(tested.values())), strict=True)
    ]
