"""Limits, and what of a change is a regression; the evidence is made by hand."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.comparison.metrics import METRICS
from harness.errors import UsageError
from harness.metrics import Outcome
from harness.stats.significance import LEAST_SAMPLES
from harness.summary import Cells, Parse, PromptHashes
from harness.testing.evidence import Evidence, Sample
from harness.testing.limits import Finding, Limit, judge, parse_limits, worsening
from harness.testing.sentences import conditions, describe, machine_differences
from tests.unit.report.conftest import RUN

NOISE = (1.01, 0.98, 1.02, 0.99, 1.03, 0.97)
ACCURACY = Limit("accuracy", 3)
PREFILL = Limit("prefill_tokens_per_second", 10)
FIRST_TOKEN = Limit("time_to_first_token_ms", 10)


def samples(
    seconds: float = 1.0, rounds: int = 6, first_token_ms: float | None = 50
) -> list[Sample]:
    """Of one worker."""
    return [
        Sample(
            run_id=f"run-{noise}",
            session=1,
            values={
                "time_to_first_token_ms": (
                    None if first_token_ms is None else first_token_ms * noise
                ),
                "peak_rss_mib": 200.0 + place,
                "examples_per_voter": 36.0,
                "load_seconds": None if place else 2.0,
            },
            work={
                "prefill_tokens_per_second": (1000, seconds * noise),
                "decode_tokens_per_second": (0, 0.0),
            },
        )
        for place, noise in enumerate(NOISE[:rounds])
    ]


def evidence(**changes: Any) -> Evidence:
    plain: dict[str, Any] = {
        "backend": "mock",
        "model": "m",
        "engine_version": "mock 1",
        "weights": "w",
        "model_sha256": None,
        "device": "none",
        "threads": 2,
        "is_mock": True,
        "prompts": PromptHashes(text_sha256="a", token_sha256="b"),
        "vote": "majority",
        "accuracy": None,
        "parse": Parse(replies=None, strict=None, lenient=None, reasons=None),
        "context_fit": RUN.context_fit,
        "memory": RUN.memory,
        "cells": Cells(done=40, failed=0),
        "shares": shares("1" * 30 + "0" * 10),
        "samples": samples(),
    }
    return Evidence(**(plain | changes))


def shares(right: str, readable: float | None = 1.0) -> dict[str, list[float | None]]:
    """A character a query: 1 for a right verdict, 0 for a wrong one, - for none."""
    marks = {"1": 1.0, "0": 0.0}
    return {
        "accuracy": [marks.get(mark) for mark in right],
        "parse_rate": [] if readable is None else [readable] * len(right),
    }


def with_values(*, workers: int = 1, **values: float | None) -> Evidence:
    """Every round, each with a worker of its own if there are several, has these figures."""
    return evidence(
        samples=[
            sample.model_copy(
                update={
                    "session": 1 + place % workers,
                    "values": {
                        name: value and value * NOISE[place] if workers > 1 else value
                        for name, value in values.items()
                    },
                }
            )
            for place, sample in enumerate(samples())
        ]
    )


def said(before: Evidence, now: Evidence, *limits: Limit) -> str:
    return "\n".join(describe(judge(before, now, limits)))


@given(st.sampled_from(list(METRICS)), st.integers(0, 10**6))
def test_a_limit_is_read_as_it_is_written(metric: str, tenths: int) -> None:
    limit = Limit(metric, tenths / 10)
    assert parse_limits(f"{metric}:{limit.most}{limit.unit}") == {metric: limit}


def test_of_several_limits_of_a_metric_the_last_holds() -> None:
    limits = parse_limits("accuracy:3pp, prefill_tokens_per_second:10%,accuracy:5pp")
    assert limits == {"accuracy": Limit("accuracy", 5), PREFILL.metric: PREFILL}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("accuracy", "'accuracy' is no limit"),
        ("accuracy:-3pp", "is no limit"),
        ("accuracy:3pp,", "'' is no limit"),
        ("speed:3%", "there is no metric speed"),
        ("accuracy:3%", "percentage points"),
        ("time_to_first_token_ms:3pp", "anything else in %"),
    ],
)
def test_a_limit_that_makes_no_sense_is_reported(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        parse_limits(text)
    assert caught.value.remedy


@given(
    st.sampled_from(list(METRICS)),
    st.lists(st.sampled_from("10-"), min_size=1, max_size=20).map("".join),
)
def test_nothing_is_worse_than_itself(metric: str, right: str) -> None:
    same = evidence(shares=shares(right))
    [finding] = judge(same, same, [Limit(metric, 0)])
    assert not finding.is_beyond
    assert not finding.is_regression


def test_a_loss_beyond_its_limit_that_is_shown_is_a_regression() -> None:
    now = evidence(shares=shares("1" * 15 + "0" * 25), samples=samples(seconds=2))
    findings = judge(evidence(), now, [ACCURACY, PREFILL])
    assert [finding.is_regression for finding in findings] == [True, True]
    text = said(evidence(), now, ACCURACY, PREFILL)
    assert "REGRESSED accuracy: 0.750 -> 0.375, -37.5pp (limit 3pp)" in text
    assert "REGRESSED prefill_tokens_per_second: 1,000 -> 500, -50.0% (limit 10%)" in text
    assert text.count("95 % interval -") == 2
    assert re.search(r"-52\.\d% to -47\.\d%; p = 0\.0\d+ \(Mann-Whitney U\)$", text)


def test_a_gain_is_none() -> None:
    better = evidence(shares=shares("1" * 40), samples=samples(seconds=0.5, first_token_ms=25))
    findings = judge(evidence(), better, [ACCURACY, PREFILL, FIRST_TOKEN])
    assert not any(finding.is_beyond for finding in findings)
    assert said(evidence(), better, ACCURACY, FIRST_TOKEN).startswith("within limits: accuracy")


def test_more_milliseconds_are_worse() -> None:
    [finding] = judge(evidence(), evidence(samples=samples(first_token_ms=75)), [FIRST_TOKEN])
    assert finding.is_regression
    assert finding.difference is not None
    assert worsening(finding.difference) == pytest.approx(50)


def test_a_loss_within_its_limit_is_none_though_it_is_shown() -> None:
    [finding] = judge(evidence(), evidence(samples=samples(seconds=1.1)), [PREFILL])
    assert finding.difference is not None
    assert finding.difference.outcome is Outcome.WORSE
    assert not finding.is_beyond
    assert not finding.is_regression


def test_a_loss_that_may_be_chance_is_said() -> None:
    now = evidence(shares=shares("1" * 28 + "0" * 12))
    [finding] = judge(evidence(), now, [ACCURACY])
    assert finding.is_beyond
    assert not finding.is_regression
    text = said(evidence(), now, ACCURACY)
    assert text.startswith("NOT SHOWN to be worse: accuracy: 0.750 -> 0.700, -5.0pp (limit 3pp)")
    assert text.endswith("more queries would tell")


def test_too_few_rounds_are_said() -> None:
    now = evidence(samples=samples(seconds=2, rounds=3))
    [finding] = judge(evidence(), now, [PREFILL])
    assert not finding.is_regression
    assert said(evidence(), now, PREFILL) == (
        "TOO FEW ROUNDS to judge prefill_tokens_per_second: 6 before, 3 now; "
        f"{LEAST_SAMPLES} are needed"
    )


def test_what_a_side_does_not_have_is_said() -> None:
    decode = Limit("decode_tokens_per_second", 10)
    assert judge(evidence(), evidence(), [decode]) == [Finding(decode, None)]
    assert said(evidence(), evidence(), decode).startswith("not judged: decode_tokens_per_second")
    scored = evidence(shares=shares("1" * 40, readable=None))
    for before, now in [(scored, scored), (scored, evidence()), (evidence(), scored)]:
        assert judge(before, now, [Limit("parse_rate", 1)])[0].difference is None


def test_rounds_that_took_no_time_have_no_part_in_a_speed() -> None:
    """A clock may be too coarse for them."""
    now = evidence(samples=[*samples(seconds=0), *samples()])
    assert judge(evidence(), now, [PREFILL]) == judge(evidence(), evidence(), [PREFILL])


def test_other_prompts_are_reported_loudly_and_not_paired() -> None:
    other = evidence(
        prompts=PromptHashes(text_sha256="c", token_sha256="d"), shares=shares("1" * 20)
    )
    [finding] = judge(evidence(), other, [ACCURACY])
    assert finding.difference is not None
    assert not finding.difference.paired
    assert finding.difference.samples == (40, 20)
    assert any(line.startswith("PROMPTS DIFFER") for line in conditions(evidence(), other))


def test_other_conditions_are_reported() -> None:
    other = evidence(engine_version="mock 2", threads=4)
    assert list(conditions(evidence(), other)) == [
        "warning: engine version differs: mock 1 -> mock 2",
        "warning: threads differs: 2 -> 4",
    ]
    assert not list(conditions(evidence(), evidence()))


def test_other_machines_differ_by_what_speeds_depend_on() -> None:
    one = {"system": "Linux", "node": "a", "cpu": {"brand_raw": "X", "count": 2, "hz": "1"}}
    other = {"system": "Linux", "node": "b", "cpu": {"brand_raw": "Y", "count": 2, "hz": "2"}}
    assert list(machine_differences(one, other)) == ["warning: cpu brand differs: X -> Y"]
    assert list(machine_differences({}, {"cpu": {}})) == []


def test_every_metric_has_a_limit() -> None:
    for metric in METRICS:
        assert metric in parse_limits(f"{metric}:1{Limit(metric, 1).unit}")


def test_rounds_that_share_a_worker_are_one_sample_of_its_memory() -> None:
    limit = Limit("peak_rss_mib", 10)
    now = with_values(peak_rss_mib=400.0)
    [finding] = judge(evidence(), now, [limit])
    assert finding.difference is not None
    assert (finding.difference.first, finding.difference.samples) == (205, (1, 1))
    assert finding.is_beyond
    assert not finding.is_regression
    assert said(evidence(), now, limit) == (
        "TOO FEW WORKERS to judge peak_rss_mib: 1 before, 1 now; "
        f"{LEAST_SAMPLES} are needed\n  fresh_engine=True opens one for each round"
    )


def test_a_worker_a_round_shows_a_regression_of_memory_and_of_loading() -> None:
    before = with_values(workers=6, peak_rss_mib=200.0, load_seconds=2.0)
    now = with_values(workers=6, peak_rss_mib=400.0, load_seconds=2.02)
    memory, loading = judge(before, now, [Limit("peak_rss_mib", 10), Limit("load_seconds", 10)])
    assert memory.is_regression
    assert loading.difference is not None
    assert loading.difference.outcome is Outcome.NO_SIGNIFICANT_DIFFERENCE
    assert not loading.is_beyond


def test_a_worker_loads_once() -> None:
    [finding] = judge(evidence(), evidence(), [Limit("load_seconds", 10)])
    assert finding.difference is not None
    assert (finding.difference.first, finding.difference.samples) == (2.0, (1, 1))


@pytest.mark.parametrize(("now", "is_regression"), [(36, False), (34, False), (32, True)])
def test_fewer_examples_beyond_the_limit_are_a_regression(now: int, is_regression: bool) -> None:
    limit = Limit("examples_per_voter", 10)
    other = with_values(examples_per_voter=float(now))
    [finding] = judge(evidence(), other, [limit])
    assert finding.is_regression == is_regression
    if is_regression:
        assert said(evidence(), other, limit) == (
            "REGRESSED examples_per_voter: 36.0 -> 32.0, -11.1% (limit 10%)"
        )
