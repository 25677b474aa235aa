"""Runs that differ in nothing are hardly ever called different, and what is planted is found.

Of few pairs, so that it is quick: enough to see a test that takes its samples for independent, or
one that finds nothing. How often it is right is counted by `tests/soak/test_verdicts.py`.
"""

from __future__ import annotations

from harness.metrics import Outcome
from tests.unit.comparison.planted import (
    called_different,
    of_a_loss,
    of_a_slowdown,
    of_equal_runs,
)

PAIRS = 12


def test_equal_runs_are_hardly_ever_called_different() -> None:
    """Short runs: their few samples depend on one another most."""
    called = called_different(of_equal_runs(PAIRS, seconds=20))
    assert called.total() <= 0.05 * 5 * PAIRS, called


def test_a_slowdown_of_a_tenth_is_found() -> None:
    found = of_a_slowdown(PAIRS)
    for metric in ("prefill_tokens_per_second", "time_to_first_token_ms"):
        assert [one[metric].outcome for one in found].count(Outcome.WORSE) >= PAIRS - 1


def test_a_loss_of_eight_points_is_found() -> None:
    worse = [one["accuracy"] for one in of_a_loss(PAIRS)]
    assert -0.09 < sum(one.change for one in worse) / PAIRS < -0.07
    assert [one.outcome for one in worse] == [Outcome.WORSE] * PAIRS
