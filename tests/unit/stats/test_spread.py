from __future__ import annotations

import math

import numpy as np
import pytest

from harness.stats.spread import likely_share, one_more, unsteadiness_of


@pytest.mark.parametrize("runs", [1, 2, 5, 10])
@pytest.mark.parametrize("least_share", [1.0, 0.6])
def test_one_more_is_within_in_nine_of_ten_cases(runs: int, least_share: float) -> None:
    """Of a machine on which equal runs differ by 10 %, with as much of its processors or with
    other shares of them; an interval is not too wide, either."""
    rng = np.random.default_rng(runs)
    held = narrow = 0
    for _ in range(400):
        shares = rng.uniform(least_share, 1.0, runs + 1)
        times = 100 / shares * np.exp(rng.normal(0, 0.1, runs + 1))
        found = one_more(list(times[1:]), list(shares[1:]), shares[0])
        held += found.low <= times[0] <= found.high
        narrow += found.high <= 2 * found.low
    assert held >= 360
    assert narrow >= 390


@pytest.mark.parametrize("power", [1.5, 2.0])
def test_so_it_is_of_engines_that_lose_more_than_their_share(power: float) -> None:
    rng = np.random.default_rng(6)
    held = 0
    for _ in range(400):
        shares = rng.uniform(0.2, 1.0, 7)
        times = 100 / shares**power * np.exp(rng.normal(0, 0.1, 7))
        found = one_more(list(times[1:]), list(shares[1:]), shares[0])
        held += found.low <= times[0] <= found.high
    assert held >= 345  # 0.88 of them, within what chance allows


def test_runs_that_differ_much_have_a_wide_interval() -> None:
    calm, wild = (one_more(t, [1] * 4, 1) for t in ([100, 101, 99, 100], [50, 100, 200, 100]))
    assert wild.value == pytest.approx(calm.value, rel=0.01)
    assert wild.high / wild.low > 2 * calm.high / calm.low


def test_half_of_the_processors_take_twice_the_time() -> None:
    assert one_more([100], [1], 0.5).value == pytest.approx(200)
    assert one_more([200, 210], [0.5, 0.5], 1).value == pytest.approx(102, rel=0.01)


def test_a_share_that_no_run_had_is_less_certain() -> None:
    near, far = (one_more([100, 101], [0.9, 0.9], share) for share in (0.9, 0.2))
    assert far.high / far.low > 1.5 * near.high / near.low


def test_runs_at_several_shares_say_how_much_a_share_matters() -> None:
    """Of threads that wait for each other, the time grows with the square of 1 / share."""
    shares = [1, 0.7, 0.5, 0.3, 0.2, 0.9, 0.4, 0.6]
    found = one_more([100 / share**2 for share in shares], shares, 0.25)
    assert found.value == pytest.approx(1600, rel=0.2)  # 800, if only the share itself mattered


def test_parts_of_a_run_that_took_longer_make_it_unsteady() -> None:
    def found(took: list[float], said: float) -> float | None:
        return unsteadiness_of(np.array(took), np.full(len(took), said), part_seconds=1.0)

    uneven, differ = [1.0, 2.0] * 10, math.log(2) / 2
    assert found([1.0] * 20, 1.0) == pytest.approx(0)
    assert found(uneven, 1.5) == pytest.approx(differ, rel=0.05)
    assert found([0.08, 0.12] * 100, 0.1) == pytest.approx(0, abs=0.02)  # a part has ten
    of_several = differ * math.sqrt(20 * 1.5 / 5)  # each is the mean of so many disturbances
    assert found([20 * one for one in uneven], 30) == pytest.approx(of_several, rel=0.05)
    assert found(uneven[:2], 1.5) is None


def test_a_second_counts_as_far_as_it_differs_more_than_seconds_of_a_run_do() -> None:
    earlier = [0.5, 0.5]
    assert likely_share(0.8, earlier, 0.0) == pytest.approx(0.8)
    assert likely_share(0.8, earlier, 0.5) == pytest.approx(0.5)  # chance: e^0.47 = 1.6
    assert likely_share(0.5, earlier, 0.5) == pytest.approx(0.5)
    assert likely_share(0.1, earlier, 0.3) == pytest.approx(0.1, rel=0.1)  # far beyond chance


def test_unsteady_runs_differ_more_the_shorter_they_are() -> None:
    def width(times: list[float], unsteadiness: float) -> float:
        found = one_more(times, [1.0] * len(times), 1.0, unsteadiness)
        return found.high / found.low

    assert width([40, 40], 0.5) > 1.2 * width([40, 40], 0)
    assert width([4000, 4000], 0.5) == width([4000, 4000], 0)
    # Both are shorter than what disturbs them.
    assert width([2, 2], 0.5) == pytest.approx(width([1, 1], 0.5))


def test_of_a_load_that_comes_and_goes_a_second_says_little() -> None:
    """Runs of 60 s, of which half a processor's bursts take part; the second is one of them."""
    rng = np.random.default_rng(0)
    runs = 1 / (1 - rng.random((400, 11, 60)).round() / 2)  # each second takes 1 or 2
    times, shares = runs.mean(axis=2) * 60, (1 / runs).mean(axis=2)
    unsteadiness = float(np.log(runs).std())
    held = believed = 0
    for time, share, first in zip(times, shares, 1 / runs[:, 0, 0], strict=True):
        earlier = list(share[1:])
        for_second = one_more(list(time[1:]), earlier, first)
        share_of_run = likely_share(first, earlier, unsteadiness)
        likely = one_more(list(time[1:]), earlier, share_of_run, unsteadiness)
        believed += for_second.low <= time[0] <= for_second.high
        held += likely.low <= time[0] <= likely.high
    assert held >= 360
    assert believed < 200
