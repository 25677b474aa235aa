"""The answer in a few sentences: only what is shown is called a difference."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from harness.comparison.records import Lead, Member, Over
from harness.metrics import Difference, Outcome
from harness.record import Span
from harness.report.verdicts import names, of_one, of_several, of_sides, reservations, unread
from harness.summary import Cells, Parse
from tests.unit.report.conftest import AGAINST, BASELINES, estimate
from tests.unit.report.test_compare import share, speed

if TYPE_CHECKING:
    from tests.unit.report.conftest import Sample


def better(change: float = 2.7, **changes: Any) -> Difference:
    plain: dict[str, Any] = {"change": change, "interval": Span(low=2.4, high=3.1)}
    return speed(**(plain | {"outcome": Outcome.BETTER} | changes))


def side(name: str) -> Member:
    return Member(run_id="a", entry=name, backend=name)


def lead(best: str, **over: Difference) -> Lead:
    [metric] = {one.metric for one in over.values()}
    return Lead(
        metric=metric,
        best=side(best),
        ahead_of_all=all(one.outcome is Outcome.BETTER for one in over.values()),
        over=[Over(side=side(name), difference=one) for name, one in over.items()],
    )


def said(*leads: Lead, differ_in_queries: bool = False) -> list[str]:
    entries = {member.entry for lead in leads for member in (lead.best, *_sides(lead))}
    return list(of_sides(leads, names(("a", name) for name in entries), differ_in_queries))


def _sides(one: Lead) -> list[Member]:
    return [over.side for over in one.over]


EQUAL = share(first=0.8, other=0.8, change=0.0, interval=Span(low=-0.027, high=0.027))
NOT_SHOWN = EQUAL.model_copy(update={"outcome": Outcome.NO_SIGNIFICANT_DIFFERENCE})


def test_who_is_ahead_is_said_with_the_interval_and_what_is_not_shown_in_one_clause() -> None:
    few = speed(metric="peak_rss_mib", interval=None, outcome=Outcome.TOO_FEW)
    same = speed(metric="examples_per_voter", interval=None, outcome=Outcome.SAME)
    leads = lead("hf", llama=better()), lead("hf", llama=NOT_SHOWN)
    assert said(*leads, lead("hf", llama=few), lead("hf", llama=same)) == [
        "hf: prefill tok/s 2.70x llama (2.40 to 3.10).",
        "No significant difference: accuracy (-2.7 to +2.7 pp); too few samples: peak memory MiB; "
        "the same: shown examples.",
    ]


def test_a_share_is_ahead_by_points_with_the_queries_where_they_differ() -> None:
    ahead = share(
        change=0.08,
        interval=Span(low=0.03, high=0.129),
        outcome=Outcome.BETTER,
        samples=(100, 200),
    )
    one = lead("hf", llama=ahead)
    assert said(one) == ["hf: accuracy 8.0 pp above llama (3.0 to 12.9)."]
    assert said(one, differ_in_queries=True) == [
        "hf: accuracy 8.0 pp above llama (3.0 to 12.9; n 100 / 200)."
    ]


def test_a_side_is_not_called_ahead_of_whom_it_is_not_shown_to_be() -> None:
    one = lead("vllm", llama=better(), hf=speed())
    assert said(one) == [
        "vllm: prefill tok/s 2.70x llama (2.40 to 3.10) (no significant difference from hf)."
    ]


def test_what_is_not_shown_names_the_better_figure_and_what_the_intervals_leave() -> None:
    one = lead("hf", llama=speed(interval=Span(low=0.9, high=1.2)), vllm=speed())
    assert said(one) == ["No significant difference: prefill tok/s (hf 0.90x to 1.20x)."]


def test_many_sides_are_counted() -> None:
    others = {f"e{index}": better(1 + index / 10) for index in range(1, 8)}
    [whole] = said(lead("best", **others))
    assert whole == "best: prefill tok/s 1.10x to 1.70x all 7 others."
    rest = {f"r{index}": speed() for index in range(1, 7)}
    [part] = said(lead("best", **others, **rest))
    assert part == (
        "best: prefill tok/s 1.10x to 1.70x 7 of 13 others (no significant difference from r1, "
        "r2, r3 and 3 more)."
    )


def test_sides_of_one_name_are_told_apart_by_their_runs() -> None:
    assert names([("a", "hf"), ("b", "hf"), ("b", "mock")]) == {
        ("a", "hf"): "hf a",
        ("b", "hf"): "hf b",
        ("b", "mock"): "mock",
    }
    assert names([("a", "hf"), ("b", "hf")], {"b": "fast"})[("b", "hf")] == "hf fast"


def test_one_entry_is_compared_with_chance_and_the_best_baseline(sample: Sample) -> None:
    assert list(of_one(sample.run(), BASELINES)) == [
        "llama-cpp: Soft vote: 0.63 (0.53 to 0.73) on 8 queries; chance is 0.50. No significant "
        "difference from the best baseline, random forest, all features (0.80; -32.1 to -15.0 pp).",
        "36 to 37 of 898 examples fit (context 99.6 % full); prefill tok/s 1,234; "
        "decode tok/s 88.1; ms to first token 702.",
    ]
    assert "baseline" not in next(of_one(sample.run(), []))


def with_outcome(outcome: Outcome) -> list[Any]:
    found = AGAINST[1].difference.model_copy(update={"outcome": outcome})
    return [AGAINST[1].model_copy(update={"difference": found})]


def test_several_entries_are_grouped_by_what_is_shown_of_them(sample: Sample) -> None:
    low = sample.accuracy(soft=estimate(0.55))
    runs = [
        sample.run(entry="a", against_baselines=with_outcome(Outcome.WORSE)),
        sample.run(entry="b", accuracy=low, against_baselines=with_outcome(Outcome.WORSE)),
    ]
    assert list(of_several(runs, BASELINES)) == [
        "Voted accuracy 0.55 to 0.63; chance is 0.50: above chance: a; not shown to beat "
        "guessing: b.",
        "Best baseline 0.80 (random forest, all features): worse for all.",
    ]
    assert list(of_several([sample.run(accuracy=sample.accuracy(soft=None))], BASELINES)) == []


def test_entries_without_a_verdict_are_not_meant_by_all(sample: Sample) -> None:
    silent = sample.run(accuracy=sample.accuracy(soft=None), against_baselines=[])
    one, *_ = of_several([sample.run(backend="hf"), silent], [])
    assert one.endswith(": above chance for hf.")
    two, *_ = of_several([sample.run(backend="hf"), sample.run(backend="vllm"), silent], [])
    assert two.endswith(": above chance for hf, vllm.")


def parsed(share: float) -> Parse:
    return Parse(replies=16, strict=estimate(share), lenient=estimate(share), reasons={})


@pytest.mark.parametrize(
    ("share", "expected"),
    [
        (1.0, []),
        (0.5, ["Not all replies could be read: hf 50 % parsed."]),
        (0.0, ["No accuracy, as no reply could be read (0 % parsed): hf."]),
    ],
)
def test_replies_that_were_not_read_are_said(
    sample: Sample, share: float, expected: list[str]
) -> None:
    assert list(unread([("hf", sample.run(parse=parsed(share)))])) == expected


def test_mocks_and_failures_come_before_any_figure(sample: Sample) -> None:
    failing = sample.mock(cells=Cells(done=12, failed=36))
    assert list(reservations([("fast", failing), ("hf", sample.run())])) == [
        "MOCK, whose figures mean nothing: fast.",
        "fast: 36 of 48 cells failed.",
    ]
