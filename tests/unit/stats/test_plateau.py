from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import norm

from harness.stats.plateau import find_plateau

QUERIES, POINTS, TRIES = 600, 7, 100
"""1, 2, 4, 8, 16, 32 and 64 examples."""


def verdicts(
    accuracies: NDArray[np.float64], alike: float, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Right or wrong, with queries of which some are harder: `alike` is the correlation of what two
    points make of a query."""
    hardness = np.sqrt(alike) * rng.standard_normal(QUERIES)
    own = np.sqrt(1 - alike) * rng.standard_normal((len(accuracies), QUERIES))
    right: NDArray[np.bool_] = hardness + own < norm.ppf(accuracies)[:, None]
    return right.astype(np.float64)


def found(step: float, plateau: int, alike: float) -> list[int | None]:
    """Where the curve that rises by `step` up to the plateau is said to stop, once a seed."""
    accuracies = 0.5 + step * np.minimum(np.arange(POINTS), plateau)
    return [
        find_plateau(verdicts(accuracies, alike, np.random.default_rng(seed))).place
        for seed in range(TRIES)
    ]


@pytest.mark.parametrize("alike", [0.0, 0.5])
@pytest.mark.parametrize("plateau", [2, 4])
def test_a_planted_plateau_is_found_within_one_step(plateau: int, alike: float) -> None:
    places = found(0.06, plateau, alike)
    assert sum(place is not None and abs(place - plateau) <= 1 for place in places) >= 90


@pytest.mark.parametrize("alike", [0.0, 0.5])
def test_a_curve_that_rises_is_not_called_flat(alike: float) -> None:
    places = found(0.04, POINTS - 1, alike)
    assert sum(place is not None for place in places) <= 10


def test_a_flat_curve_stops_where_it_begins() -> None:
    assert found(0.0, 0, 0.5).count(0) >= 85


def test_a_curve_that_falls_stops_at_its_top() -> None:
    accuracies = np.array([0.5, 0.6, 0.75, 0.7, 0.6, 0.5])
    right = verdicts(accuracies, 0.5, np.random.default_rng(0))
    assert find_plateau(right).place == 2


def test_equal_verdicts_are_no_rise() -> None:
    flat = find_plateau(np.ones((4, 30)))
    assert (flat.place, flat.p_values) == (0, (1.0,))


def test_few_changes_are_no_rise_as_in_the_exact_test() -> None:
    """Three queries became right and none wrong: 1 in 8 by chance."""
    right = np.zeros((2, 100))
    right[1, :3] = 1
    assert find_plateau(right).p_values[0] == pytest.approx(0.125, abs=0.01)


def test_one_later_point_does_not_show_a_plateau() -> None:
    right = verdicts(np.array([0.5, 0.7, 0.7]), 0.5, np.random.default_rng(0))
    assert find_plateau(right).place is None
    assert len(find_plateau(right).p_values) == 2
    assert find_plateau(right[1:]).place is None
