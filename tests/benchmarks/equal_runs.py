"""Pairs of runs of a real engine that differ in nothing: how often are they called different?

    python tests/benchmarks/equal_runs.py --pairs 10

Each run is `harness run` as it is by default, on one engine: seven voters, 100 queries. The runs
come one after the other, the first with the second, the third with the fourth: what changes in the
machine meanwhile is among what has to be lived with. All of them are stored in the folder that is
named at the end, for `harness history` and `harness compare`. Ends with 1 where more than 5 % of
the metrics are called different.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from statistics import stdev

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from harness.comparison.compare import compare
from harness.comparison.metrics import METRICS
from harness.metrics import Difference, Outcome
from harness.pipeline.run import run
from harness.spec import RunSpec
from harness.store.runs import Results
from harness.summary import Summary

SPEEDS = ("prefill_tokens_per_second", "decode_tokens_per_second")


def main() -> int:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--backend", default="llama-cpp")
    parser.add_argument("--pairs", type=int, default=10)
    arguments = parser.parse_args()
    results = Path(tempfile.mkdtemp(prefix="equal-runs-"))
    spec = RunSpec(backend=(arguments.backend,))
    numbers = range(2 * arguments.pairs)
    runs = [run(spec, results) for _ in track(numbers, console=Console(stderr=True))]
    found = _differences(runs, results)
    _print(found)
    for metric in SPEEDS:
        values = [METRICS[metric].figure(one.runs[0]) for one in runs]
        logs = np.log(np.array(values, dtype=np.float64))
        print(f"{metric}: {len(runs)} runs vary by {100 * stdev(logs):.1f} %")
    print(f"runs stored in {results}")
    return int(sum(map(_is_called_different, found)) > 0.05 * len(found))


def _differences(runs: list[Summary], results: Path) -> list[Difference]:
    with Results(results) as stored:
        sides = [entry for one in runs for entry in stored.entries(one.run_id)]
        pairs = zip(sides[::2], sides[1::2], strict=True)
        return [one for pair in pairs for one in compare(pair).against_first[0].differences]


def _is_called_different(one: Difference) -> bool:
    return one.outcome in (Outcome.BETTER, Outcome.WORSE)


def _print(found: list[Difference]) -> None:
    table = Table()
    for title in ("metric", "pairs", "called different", "largest change", "median width"):
        table.add_column(title)
    for metric in dict.fromkeys(one.metric for one in found):
        mine = [one for one in found if one.metric == metric]
        called = sum(map(_is_called_different, mine))
        no_change = 0.0 if mine[0].kind == "difference" else 1.0
        largest = max((one.change for one in mine), key=lambda change: abs(change - no_change))
        widths = [one.interval.high - one.interval.low for one in mine if one.interval]
        width = f"{np.median(widths):.3f}" if widths else "too few samples"
        table.add_row(metric, str(len(mine)), str(called), f"{largest:.3f}", width)
    Console(width=100).print(table)


if __name__ == "__main__":
    sys.exit(main())
