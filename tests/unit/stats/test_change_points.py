"""Changes of level: laws, and how often noise is taken for one and a step is missed."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from statistics import median
from typing import TypeAlias

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from harness.stats.change_points import ALPHA, LEAST_RUNS, find

Noise: TypeAlias = Callable[[np.random.Generator, int], NDArray[np.float64]]

HISTORIES = 400
RUNS = 30
MIDDLE = RUNS // 2

# whole numbers, so that shifting and scaling them is exact
levels = st.lists(st.tuples(st.integers(1, 40), st.integers(LEAST_RUNS, 9)), min_size=1, max_size=4)
wobble = st.lists(st.integers(-2, 2), min_size=36, max_size=36)
histories = st.builds(
    lambda levels, wobble: [
        10 * level + extra
        for (level, count), start in zip(levels, range(0, 36, 9), strict=False)
        for extra in wobble[start : start + count]
    ],
    levels,
    wobble,
)


def independent(rng: np.random.Generator, runs: int) -> NDArray[np.float64]:
    return np.exp(0.05 * rng.normal(size=runs))


def alike_in_a_row(rng: np.random.Generator, runs: int) -> NDArray[np.float64]:
    """Autoregressive, 0.3, with the same spread."""
    steps = rng.normal(size=runs) * np.sqrt(1 - 0.3**2)
    steps[0] = rng.normal()
    for run in range(1, runs):
        steps[run] += 0.3 * steps[run - 1]
    values: NDArray[np.float64] = np.exp(0.05 * steps)
    return values


def with_one_bad_run(rng: np.random.Generator, runs: int) -> NDArray[np.float64]:
    values = independent(rng, runs)
    values[rng.integers(runs)] *= 0.5
    return values


NOISES: list[Noise] = [independent, alike_in_a_row, with_one_bad_run]


@settings(max_examples=30)
@given(histories, st.integers(-1000, 1000), st.sampled_from([0.25, 1, 3, 64]))
def test_shifting_and_scaling_changes_no_place(
    history: list[int], shift: int, factor: float
) -> None:
    plain = find(history)
    moved = find([factor * (value + shift) for value in history])
    assert [one.index for one in moved] == [one.index for one in plain]
    assert [one.p_adjusted for one in moved] == [one.p_adjusted for one in plain]


@settings(max_examples=30)
@given(histories)
def test_levels_are_medians_of_runs_that_are_enough(history: list[int]) -> None:
    found = find(history)
    places = [0, *(one.index for one in found), len(history)]
    assert all(end - begin >= LEAST_RUNS for begin, end in pairwise(places))
    for one in found:
        assert one.before != one.after
        assert 0 <= one.p_adjusted < ALPHA
    medians = [median(history[begin:end]) for begin, end in pairwise(places)]
    assert [(one.before, one.after) for one in found] == list(pairwise(medians))


@given(st.floats(-1e6, 1e6), st.integers(0, 40))
def test_a_constant_history_has_none(value: float, runs: int) -> None:
    assert find([value] * runs) == []


def test_fewer_runs_than_two_levels_take_have_none() -> None:
    assert find([1.0, 1.1, 0.9, 1.0, 1.1, 9.0, 9.1, 8.9, 9.0]) == []


def test_a_figure_without_noise_changes_when_it_changes() -> None:
    [one] = find([5] * 5 + [6] * 5)
    assert (one.index, one.before, one.after) == (5, 5, 6)
    up, down = find([5] * 6 + [6] * 5 + [5] * 7)
    assert (up.index, down.index) == (6, 11)


@pytest.mark.parametrize("changes", [1, 2, 3])
def test_changes_of_the_shortest_levels_are_all_found(changes: int) -> None:
    rng = np.random.default_rng(0)
    steps = np.repeat(0.8 ** np.arange(changes + 1), LEAST_RUNS)
    found = find((100 * steps * (1 + 0.002 * rng.normal(size=len(steps)))).tolist())
    assert [one.index for one in found] == [LEAST_RUNS * one for one in range(1, changes + 1)]


def test_a_level_reaches_over_a_candidate_that_was_dropped() -> None:
    uneven, even, lower = [97, 94, 96, 96, 104], [103, 103, 104, 102, 103], [81, 80, 78, 80, 79]
    [one] = find(uneven + even + lower)
    assert (one.index, one.before, one.after) == (10, median(uneven + even), median(lower))
    [alone] = find([*uneven, *even, *lower][5:])
    assert one.p_adjusted < alone.p_adjusted


def test_one_run_is_no_level() -> None:
    assert find([1.0, 1.02, 0.99, 1.01, 1.0, 0.5, 1.01, 0.98, 1.0, 1.02, 0.99, 1.0]) == []


@pytest.mark.parametrize("noise", NOISES)
def test_noise_alone_is_hardly_ever_called_a_change(noise: Noise) -> None:
    rng = np.random.default_rng(0)
    called = sum(bool(find(noise(rng, RUNS).tolist())) for _ in range(HISTORIES))
    assert called <= 0.05 * HISTORIES


@pytest.mark.parametrize("noise", NOISES)
def test_a_step_of_15_percent_is_found_where_it_is(noise: Noise) -> None:
    rng = np.random.default_rng(1)
    step = np.where(np.arange(RUNS) < MIDDLE, 1, 0.85)
    found = [find((noise(rng, RUNS) * step).tolist()) for _ in range(HISTORIES)]
    near = sum(any(abs(one.index - MIDDLE) <= 2 for one in every) for every in found)
    assert near >= 0.95 * HISTORIES
