"""How often runs that differ in nothing are called different, and how often a planted difference
is found: the figures of `docs/METRICS.md`, "Differences", are of the 200 pairs of SOAK=full.

SOAK=full python -m pytest tests/soak/test_verdicts.py -s        shows them
"""

from __future__ import annotations

from collections import Counter

import pytest

from harness.metrics import Outcome
from tests.soak.conftest import Soak
from tests.unit.comparison.planted import (
    called_different,
    of_a_loss,
    of_a_slowdown,
    of_equal_runs,
)

KIND = "verdict"


@pytest.mark.parametrize("seconds", [250, 20])
def test_equal_runs_are_hardly_ever_called_different(soak: Soak, seconds: int) -> None:
    pairs = soak.most("pairs")
    found = of_equal_runs(pairs, seconds)
    assert {len(one) for one in found} == {5}
    called = called_different(found)
    print(f"called different, of {pairs} pairs of {seconds} s: {dict(called)}")  # noqa: T201 - shown by pytest -s
    too_often = called.total() > 0.05 * 5 * pairs or max(called.values(), default=0) > 0.08 * pairs
    _count(soak, f"equal runs of {seconds} s", called if too_often else None)


def test_a_slowdown_of_a_tenth_is_found(soak: Soak) -> None:
    slowed = of_a_slowdown(soak.most("pairs"))
    for metric in ("prefill_tokens_per_second", "time_to_first_token_ms"):
        _is_found(soak, f"slower by a tenth, {metric}", [one[metric].outcome for one in slowed])


def test_a_loss_of_eight_points_is_found(soak: Soak) -> None:
    worse = [one["accuracy"] for one in of_a_loss(soak.most("pairs"))]
    assert -0.085 < sum(one.change for one in worse) / len(worse) < -0.075
    _is_found(soak, "eight points less", [one.outcome for one in worse])


def _is_found(soak: Soak, name: str, outcomes: list[Outcome]) -> None:
    counts = Counter(outcomes)
    print(f"{name}: {dict(counts)}")  # noqa: T201 - shown by pytest -s
    _count(soak, name, counts if counts[Outcome.WORSE] < 0.95 * len(outcomes) else None)


def _count(soak: Soak, name: str, wrong: Counter[str] | Counter[Outcome] | None) -> None:
    soak.count(KIND, name, f"{dict(wrong)}" if wrong is not None else "")
    assert wrong is None
