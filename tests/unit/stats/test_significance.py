"""Differences between two sides: against scipy, the laws that hold for any, and the edges."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from itertools import pairwise
from math import log, nan

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from harness.metrics import Difference, Kind, Metric, Outcome
from harness.stats.significance import (
    ALPHA,
    LEAST_SAMPLES,
    SAMPLE_SECONDS,
    SAMPLES,
    Times,
    Values,
    Work,
    adjusted,
    cochran_q,
    counted,
    difference,
    in_blocks,
    measured,
    ratio,
    share_difference,
    turned,
    variance_inflation,
)


def metric(name: str, kind: Kind, more_is_better: bool = True) -> Metric:
    return Metric(name, name, "", more_is_better, kind, value=lambda _: None)


ACCURACY, PARSE_RATE = metric("accuracy", "share"), metric("parse_rate", "share")
SPEED, TIME = metric("speed", "rate"), metric("time", "time", more_is_better=False)
MEMORY = metric("memory", "per_session", more_is_better=False)
EXAMPLES = metric("examples", "count")
TURNED = {Outcome.BETTER: Outcome.WORSE, Outcome.WORSE: Outcome.BETTER}

quick = settings(max_examples=25)  # of what resamples some thousand times
verdicts = st.sampled_from([0.0, 1.0, nan])
shares = st.sampled_from([0.0, 0.25, 0.5, 1.0, nan])
amounts = st.floats(0.01, 1e5)
series = st.lists(st.floats(1e-3, 1e6), min_size=LEAST_SAMPLES, max_size=40).map(np.array)
works = st.lists(st.tuples(amounts, amounts), min_size=LEAST_SAMPLES, max_size=20).map(
    lambda pairs: Work(*(np.array(column) for column in zip(*pairs, strict=True)))
)


def pairs_of(values: st.SearchStrategy[float]) -> st.SearchStrategy[tuple[Values, Values]]:
    return st.lists(st.tuples(values, values), max_size=60).map(
        lambda pairs: (np.array([a for a, _ in pairs]), np.array([b for _, b in pairs]))
    )


def values(*given: float) -> Values:
    return np.array(given, dtype=np.float64)


def work(*took: float) -> Work:
    """A hundred tokens a sample, in so many seconds."""
    return Work(np.full(len(took), 100.0), values(*took))


def shared(first: Values, other: Values, paired: bool = True) -> Difference:
    found = share_difference(ACCURACY, first, other, paired)
    assert found is not None
    return found


def compared(first: Work, other: Work, of: Metric = SPEED) -> Difference:
    found = ratio(of, first, other)
    assert found is not None
    return found


def ends(one: Difference) -> tuple[float, float]:
    assert one.interval is not None
    return one.interval.low, one.interval.high


@given(pairs_of(verdicts), st.booleans())
def test_shares_swapped_turn_the_sign_and_the_verdict(
    sides: tuple[Values, Values], paired: bool
) -> None:
    there, back = (share_difference(ACCURACY, *two, paired) for two in (sides, sides[::-1]))
    if there is None or back is None:
        assert there is back
        return
    assert (there.first, there.other, there.change) == (back.other, back.first, -back.change)
    assert ends(there) == pytest.approx([-end for end in reversed(ends(back))], abs=1e-9)
    assert there.p_value == pytest.approx(back.p_value)
    assert there.outcome is TURNED.get(back.outcome, back.outcome)


@given(pairs_of(verdicts))
def test_paired_verdicts_are_mcnemars_exactly(sides: tuple[Values, Values]) -> None:
    gained, lost = int((sides[1] > sides[0]).sum()), int((sides[1] < sides[0]).sum())
    found = share_difference(ACCURACY, *sides, paired=True)
    assume(found)
    assert found is not None
    expected = binomtest(gained, gained + lost).pvalue if gained + lost else 1.0
    assert found.p_value == pytest.approx(expected)
    assert found.samples[0] * found.change == pytest.approx(gained - lost)
    assert found.test == "McNemar, exact"


@given(pairs_of(verdicts), st.booleans())
def test_an_interval_of_verdicts_holds_the_estimate_and_stays_a_difference(
    sides: tuple[Values, Values], paired: bool
) -> None:
    found = share_difference(ACCURACY, *sides, paired)
    assume(found)
    assert found is not None
    low, high = ends(found)
    assert -1 <= low <= found.change <= high <= 1


@quick
@given(pairs_of(shares), st.data())
def test_the_order_of_queries_does_not_matter(
    sides: tuple[Values, Values], data: st.DataObject
) -> None:
    order = data.draw(st.permutations(range(len(sides[0]))))
    moved = [side[np.array(order, dtype=np.int64)] for side in sides]
    one, other = (share_difference(PARSE_RATE, a, b, True) for a, b in (sides, moved))
    if one is None or other is None:
        assert one is other
        return
    assert (one.samples, one.test) == (other.samples, other.test)
    assert one.change == pytest.approx(other.change)
    if one.p_value is not None and one.samples[0] <= 12:  # all sign flips are looked at
        assert one.p_value == pytest.approx(other.p_value)


@quick
@given(pairs_of(shares), st.booleans())
def test_a_side_is_never_said_to_differ_from_itself(
    sides: tuple[Values, Values], paired: bool
) -> None:
    found = share_difference(PARSE_RATE, sides[0], sides[0], paired)
    if found is not None:
        assert found.change == 0
        assert found.outcome in (Outcome.NO_SIGNIFICANT_DIFFERENCE, Outcome.TOO_FEW)


@given(pairs_of(shares), st.booleans())
@quick
def test_a_verdict_takes_both(sides: tuple[Values, Values], paired: bool) -> None:
    found = share_difference(PARSE_RATE, *sides, paired)
    assume(found and found.interval)
    assert found is not None
    low, high = ends(found)
    shown = found.p_value is not None and found.p_value < ALPHA and not low <= 0 <= high
    assert (found.outcome in (Outcome.BETTER, Outcome.WORSE)) == shown


def test_paired_queries_count_where_both_sides_came_to_something() -> None:
    found = shared(values(1, 1, nan, 0), values(1, nan, 0, 1))
    assert (found.first, found.other, found.samples) == (0.5, 1.0, (2, 2))


def test_unpaired_sides_keep_all_that_they_have() -> None:
    found = shared(values(1, 1, nan, 0), values(1, nan, 0, 1, 1), paired=False)
    assert (found.samples, found.paired, found.test) == ((3, 4), False, "Fisher, exact")


@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize("sides", [([], []), ([nan, nan], [1, 0]), ([nan, 1], [1, nan])])
def test_no_query_in_common_is_no_difference(sides: Sequence[list[float]], paired: bool) -> None:
    found = share_difference(ACCURACY, values(*sides[0]), values(*sides[1]), paired)
    both_have_some = all(np.isfinite(side).any() for side in sides)
    assert (found is None) == (paired or not both_have_some)


@pytest.mark.parametrize("paired", [True, False])
def test_one_query_shows_nothing(paired: bool) -> None:
    assert shared(values(0), values(1), paired).outcome is Outcome.NO_SIGNIFICANT_DIFFERENCE
    part = shared(values(0.5), values(1), paired)
    assert (part.interval, part.p_value, part.outcome) == (None, None, Outcome.TOO_FEW)


@pytest.mark.parametrize("right", [0.0, 1.0])
@pytest.mark.parametrize("paired", [True, False])
def test_what_is_always_right_or_wrong_still_has_an_interval(right: float, paired: bool) -> None:
    found = shared(np.full(8, right), np.full(8, right), paired)
    low, high = ends(found)
    assert low < 0 < high
    assert (found.p_value, found.outcome) == (1.0, Outcome.NO_SIGNIFICANT_DIFFERENCE)


@pytest.mark.parametrize("paired", [True, False])
def test_constant_shares_that_differ_are_told_apart(paired: bool) -> None:
    found = shared(np.full(50, 0.5), np.full(50, 0.75), paired)
    assert (ends(found), found.outcome) == ((0.25, 0.25), Outcome.BETTER)


def test_a_share_of_which_more_is_right_is_better() -> None:
    first, other = np.repeat([1.0, 0.0], [300, 300]), np.repeat([1.0, 0.0], [348, 252])
    assert shared(first, other).outcome is Outcome.BETTER
    assert shared(other, first).outcome is Outcome.WORSE


@given(works, works)
@quick
def test_ratios_swapped_are_inverted(first: Work, other: Work) -> None:
    there, back = compared(first, other), compared(other, first)
    assert there.change * back.change == pytest.approx(1)
    assert there.p_value == pytest.approx(back.p_value)
    if there.outcome is back.outcome:
        assert there.outcome is Outcome.NO_SIGNIFICANT_DIFFERENCE


@given(works)
@quick
def test_work_never_differs_from_itself(one: Work) -> None:
    found = compared(one, one)
    assert (found.change, found.outcome) == (1.0, Outcome.NO_SIGNIFICANT_DIFFERENCE)


@given(works, works, st.sampled_from([2.0**-10, 0.5, 8.0, 2.0**20]))
@quick
def test_work_of_another_size_gives_the_same_ratio(first: Work, other: Work, times: float) -> None:
    larger, more = (replace(one, amounts=times * one.amounts) for one in (first, other))
    plain, scaled = compared(first, other), compared(larger, more)
    assert scaled.change == pytest.approx(plain.change)
    assert ends(scaled) == pytest.approx(ends(plain))
    assert scaled.p_value == pytest.approx(plain.p_value)
    assert scaled.outcome is plain.outcome


SLOW, FAST = (2.0, 2.4) * 3, (1.0, 1.2) * 3


def test_six_samples_that_are_wholly_apart_are_told_apart() -> None:
    assert compared(work(*FAST), work(*SLOW)).outcome is Outcome.WORSE
    assert compared(work(*SLOW), work(*FAST)).outcome is Outcome.BETTER
    assert compared(work(*FAST), work(*FAST[::-1])).outcome is Outcome.NO_SIGNIFICANT_DIFFERENCE


def test_less_time_is_better() -> None:
    faster = Work(values(*FAST), np.ones(6)), Work(values(*SLOW), np.ones(6))
    assert compared(*faster, TIME).outcome is Outcome.WORSE


@pytest.mark.parametrize("count", range(1, LEAST_SAMPLES))
def test_few_samples_give_a_ratio_and_no_more(count: int) -> None:
    for first, other in ((FAST[:count], SLOW), (SLOW, FAST[:count])):
        found = compared(work(*first), work(*other))
        assert found.change > 0
        assert (found.interval, found.p_value, found.outcome) == (None, None, Outcome.TOO_FEW)


def test_without_samples_there_is_no_ratio() -> None:
    assert ratio(SPEED, work(), work(*FAST)) is None
    assert ratio(SPEED, work(*FAST), work()) is None


def test_constant_speeds_are_compared_without_a_warning() -> None:
    same, half = (compared(work(*[0.1] * 6), work(*[took] * 6)) for took in (0.1, 0.2))
    assert (ends(same), same.outcome) == ((1.0, 1.0), Outcome.NO_SIGNIFICANT_DIFFERENCE)
    assert (ends(half), half.outcome) == ((0.5, 0.5), Outcome.WORSE)


def test_a_ratio_is_of_sums_not_of_rates() -> None:
    uneven = Work(values(1000, 1), values(10, 1))
    assert compared(uneven, uneven).first == pytest.approx(1001 / 11)


def wave(*, neighbours_alike: bool) -> Values:
    """The same forty speeds in another order."""
    slow_and_fast = [100.0] * 20 + [110.0] * 20
    return values(*slow_and_fast) if neighbours_alike else values(*[100.0, 110.0] * 20)


def test_neighbours_that_are_alike_widen_the_interval_and_the_p_value() -> None:
    def against(rates: Values) -> Difference:
        return compared(Work(rates, np.ones(40)), Work(1.02 * rates, np.ones(40)))

    alike, mixed = against(wave(neighbours_alike=True)), against(wave(neighbours_alike=False))
    (low, high), (mixed_low, mixed_high) = ends(alike), ends(mixed)
    widened = log(high / low) / log(mixed_high / mixed_low)
    assert widened == pytest.approx(3**0.5, rel=0.1)  # of other draws
    assert alike.p_value is not None
    assert mixed.p_value is not None
    assert mixed.p_value < alike.p_value


@given(series, series)
def test_inflation_is_bounded_and_takes_the_sides_in_any_order(one: Values, two: Values) -> None:
    found = variance_inflation(one, two)
    assert 1 <= found <= 3
    assert found == pytest.approx(variance_inflation(two, one))


@given(st.floats(1e-3, 1e6), st.integers(LEAST_SAMPLES, 40))
def test_constant_series_inflate_nothing(value: float, count: int) -> None:
    assert variance_inflation(np.full(count, value)) == 1


def test_a_trend_inflates_most_and_an_alternation_least() -> None:
    assert variance_inflation(np.arange(1.0, 31.0)) == 3
    for count in (10, 40):  # the correlation that so many samples cannot rule out is 2 / count
        alternating = np.resize([1.0, 2.0], count)
        assert variance_inflation(alternating) == pytest.approx((count + 2) / (count - 2))


@cache
def slower() -> Difference:
    return compared(work(*FAST), work(*SLOW))


blocks = st.lists(
    st.lists(st.floats(0.1, 1e5), min_size=1, max_size=8).map(np.array),
    min_size=LEAST_SAMPLES,
    max_size=12,
).map(lambda given: Times(tuple(given)))


@given(blocks, st.data())
def test_a_resampled_median_is_that_of_all_replies_drawn(one: Times, data: st.DataObject) -> None:
    count = len(one.blocks)
    rows = st.lists(st.integers(0, count - 1), min_size=count, max_size=count)
    places = np.array(data.draw(st.lists(rows, min_size=1, max_size=5)))
    expected = [np.median(np.concatenate([one.blocks[i] for i in row])) for row in places]
    assert one.resampled(places).tolist() == pytest.approx(expected)
    assert one.resampled(np.arange(count)) == pytest.approx(one.figure)


def times(*medians: float) -> Times:
    """Blocks of five replies, of which one is far from the others."""
    spread = (0.99, 1.0, 1.0, 1.01, 50.0)
    return Times(tuple(np.array([median * one for one in spread]) for median in medians))


def timed(first: Times, other: Times) -> Difference:
    found = ratio(TIME, first, other)
    assert found is not None
    return found


@given(blocks, blocks)
@quick
def test_times_swapped_are_inverted(first: Times, other: Times) -> None:
    there, back = timed(first, other), timed(other, first)
    assert there.change * back.change == pytest.approx(1)
    assert there.p_value == pytest.approx(back.p_value)
    if there.outcome is back.outcome:
        assert there.outcome is Outcome.NO_SIGNIFICANT_DIFFERENCE


@given(blocks)
@quick
def test_times_never_differ_from_themselves(one: Times) -> None:
    found = timed(one, one)
    assert (found.change, found.outcome) == (1.0, Outcome.NO_SIGNIFICANT_DIFFERENCE)


def test_times_are_compared_by_their_medians() -> None:
    """A reply in five that is far from the others moves no median."""
    slower = timed(times(*FAST), times(*SLOW))
    assert [slower.first, slower.other] == pytest.approx([1.1, 2.2], rel=0.1)
    assert slower.outcome is Outcome.WORSE
    assert timed(times(*SLOW), times(*FAST)).outcome is Outcome.BETTER
    assert timed(times(*FAST), times(*FAST[::-1])).outcome is Outcome.NO_SIGNIFICANT_DIFFERENCE
    low, high = ends(slower)
    assert low <= slower.change <= high


def test_few_blocks_of_times_give_a_ratio_and_no_more() -> None:
    found = timed(times(*FAST[:5]), times(*SLOW))
    assert (found.interval, found.p_value, found.outcome) == (None, None, Outcome.TOO_FEW)
    assert ratio(TIME, Times(()), times(*SLOW)) is None


def test_a_count_that_differs_is_another_whatever_else() -> None:
    for other, verdict in (
        (36.0, Outcome.WORSE),
        (37.0, Outcome.SAME),
        (38.0, Outcome.BETTER),
    ):
        found = counted(EXAMPLES, 37.0, other)
        assert found is not None
        assert (found.change, found.outcome) == (other / 37, verdict)
        assert (found.test, found.interval, found.p_value) == ("counted", None, None)
        assert adjusted(EXAMPLES, [found, found]) == [found, found]


def test_a_count_of_nought_has_a_ratio_to_nought_only() -> None:
    assert counted(EXAMPLES, 0, 5) is None
    nothing, gone = counted(EXAMPLES, 0, 0), counted(EXAMPLES, 5, 0)
    assert nothing is not None
    assert gone is not None
    assert (nothing.change, nothing.outcome) == (1.0, Outcome.SAME)
    assert (gone.change, gone.outcome) == (0.0, Outcome.WORSE)
    assert turned(gone) is None


def test_a_difference_that_is_turned_is_that_of_the_sides_in_the_other_order() -> None:
    for there, back in (
        (compared(work(*FAST), work(*SLOW)), compared(work(*SLOW), work(*FAST))),
        (shared(values(1, 1, 0), values(0, 1, 0)), shared(values(0, 1, 0), values(1, 1, 0))),
    ):
        found = turned(there)
        assert found is not None
        assert found.change == pytest.approx(back.change)
        assert (found.first, found.other) == (back.first, back.other)
        assert (found.samples, found.outcome) == (back.samples, back.outcome)
        assert found.p_value == pytest.approx(back.p_value)
        assert there.interval is not None
        assert found.interval is not None
        assert found.interval.low < found.change < found.interval.high
        assert turned(found) is not None


def test_nought_that_is_turned_has_no_sign() -> None:
    found = turned(shared(values(1, 1, 0), values(1, 1, 0)))
    assert found is not None
    assert f"{found.change:+}" == "+0.0"


def test_each_kind_is_compared_in_its_way() -> None:
    for of, pair, test in (
        (ACCURACY, (values(1, 0), values(1, 1)), "Fisher, exact"),
        (SPEED, (work(*FAST), work(*SLOW)), "Mann-Whitney U"),
        (TIME, (times(*FAST), times(*SLOW)), "Mann-Whitney U"),
        (MEMORY, (values(*FAST), values(*SLOW)), "Mann-Whitney U"),
        (EXAMPLES, (5.0, 4.0), "counted"),
    ):
        found = difference(of, *pair)
        assert found is not None
        assert (found.metric, found.test) == (of.name, test)
    with pytest.raises(TypeError, match="cannot be compared"):
        difference(SPEED, work(1), 5.0)


def test_sessions_are_samples_and_one_of_each_is_too_few() -> None:
    many = difference(MEMORY, values(*FAST), values(*SLOW))
    one = difference(MEMORY, values(100), values(150))
    assert many is not None
    assert one is not None
    assert (many.outcome, many.samples) == (Outcome.WORSE, (6, 6))
    assert (one.change, one.outcome, one.samples) == (1.5, Outcome.TOO_FEW, (1, 1))


@given(st.lists(st.floats(0, 1), min_size=2, max_size=6))
def test_adjusted_p_values_are_holms(p_values: list[float]) -> None:
    every = [slower().model_copy(update={"p_value": p, "p_adjusted": p}) for p in p_values]
    found = adjusted(SPEED, every)
    assert [one.p_value for one in found] == p_values
    for one in found:
        assert one.p_value is not None
        assert one.p_adjusted is not None
        assert one.p_value <= one.p_adjusted <= 1
        assert (one.outcome is Outcome.WORSE) == (one.p_adjusted < ALPHA)
    assert found[int(np.argmin(p_values))].p_adjusted == pytest.approx(
        min(1, len(p_values) * min(p_values))
    )


def test_a_single_comparison_is_not_adjusted() -> None:
    for one in (slower(), shared(values(1, 0, 1), values(0, 0, 1))):
        assert adjusted(SPEED, [one]) == [one]


def test_what_was_not_tested_does_not_count() -> None:
    tested, untested = slower(), compared(work(1), work(2))
    assert adjusted(SPEED, [untested, tested]) == [untested, tested]
    assert adjusted(SPEED, [untested]) == [untested]
    assert adjusted(SPEED, []) == []


@pytest.mark.parametrize(
    "sides",
    [
        [[], [], []],
        [[1, 0, 1]] * 3,
        [[nan, nan], [1, 0], [0, 1]],
    ],
)
def test_cochrans_q_takes_queries_that_tell_the_sides_apart(sides: list[list[float]]) -> None:
    assert cochran_q([values(*side) for side in sides]) is None


def test_cochrans_q_leaves_out_queries_that_not_all_answered() -> None:
    sides = [values(1, 0, 1, 1), values(1, 0, 0, 1), values(0, 0, 1, 1)]
    more = [np.append(side, last) for side, last in zip(sides, (nan, 0, 1), strict=True)]
    assert cochran_q(more) == cochran_q(sides)
    # by its formula: k = 3, right by side 3, 2, 2; by query 2, 0, 2, 3
    assert cochran_q(sides) == pytest.approx(float(np.exp(-0.5)))


seconds = st.lists(st.just(0.0) | st.floats(1e-3, 100), max_size=60).map(
    lambda given: np.array(given, dtype=np.float64)
)


@given(seconds)
def test_blocks_are_runs_of_batches_in_order_none_missing(took: Values) -> None:
    blocks = in_blocks(took).tolist()
    assert len(blocks) == len(took)
    assert blocks[:1] in ([], [0])
    assert all(after - before in (0, 1) for before, after in pairwise(blocks))


@given(seconds)
def test_no_block_is_longer_than_its_share_and_one_batch(took: Values) -> None:
    whole, (fewest, most) = float(took.sum()), SAMPLES
    assume(whole)
    wanted = min(max(whole / SAMPLE_SECONDS, fewest), most)
    lengths = np.bincount(in_blocks(took), took)
    assert lengths.sum() == pytest.approx(whole)
    assert len(lengths) <= most
    assert lengths.max() <= (whole / wanted + took.max()) * (1 + 1e-9)


def some_work(count: int) -> Callable[[float], list[int]]:
    return lambda each: np.bincount(in_blocks(np.full(count, each))).tolist()


def test_blocks_last_some_seconds_but_for_short_and_long_runs() -> None:
    assert some_work(40)(0.01) == [5] * 8
    assert some_work(40)(2.5) == [2] * 20
    assert some_work(90)(100) == [3] * 30
    assert some_work(3)(1) == [1] * 3


def test_batches_that_took_no_time_are_one_block() -> None:
    assert in_blocks(np.zeros(3)).tolist() == [0, 0, 0]
    assert in_blocks(np.zeros(0)).tolist() == []


@quick
@given(st.lists(st.lists(st.floats(1e-3, 1e6), min_size=1, max_size=9), min_size=6, max_size=12))
def test_a_median_over_all_blocks_is_numpys(blocks: list[list[float]]) -> None:
    times = Times(tuple(map(np.array, blocks)))
    assert times.figure == pytest.approx(np.median(np.concatenate(times.blocks)))
    once = np.arange(len(blocks))[np.newaxis]
    assert times.resampled(once)[0] == pytest.approx(times.figure)


def test_few_blocks_have_a_figure_without_an_interval_and_none_have_nothing() -> None:
    few = measured(Work(np.ones(LEAST_SAMPLES - 1), np.full(LEAST_SAMPLES - 1, 0.5)))
    assert few is not None
    assert (few.value, few.low, few.high) == (2.0, None, None)
    assert measured(Work(np.ones(0), np.ones(0))) is None
