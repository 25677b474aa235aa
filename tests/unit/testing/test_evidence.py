"""What is saved reads back, and so does what earlier versions saved."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from harness.testing.evidence import EXTRA_INFO, read_evidence
from harness.testing.limits import Limit, judge
from harness.testing.sentences import describe
from tests.unit.testing.test_limits import evidence

COMMITTED = Path(__file__).parents[3] / "results" / "benchmarks"


@pytest.fixture(scope="module")
def version_1() -> list[dict[str, Any]]:
    """What the benchmarks of this project have saved with the version of that time."""
    [path] = COMMITTED.rglob("0001_*.json")
    every = [one["extra_info"] for one in json.loads(path.read_text())["benchmarks"]]
    return [info[EXTRA_INFO] for info in every if EXTRA_INFO in info]


def test_it_reads_back() -> None:
    assert read_evidence(evidence().model_dump(mode="json")) == evidence()
    assert read_evidence(json.loads(evidence().model_dump_json())) == evidence()


def test_version_1_reads_as_what_it_says(version_1: list[dict[str, Any]]) -> None:
    assert version_1
    for record in version_1:
        found = read_evidence(record)
        assert record["version"] == 1
        assert [one.run_id for one in found.samples] == [s["run_id"] for s in record["samples"]]
        assert {one.session for one in found.samples} == {1}
        stated = {"1": 1.0, "0": 0.0, "-": None}
        assert found.shares["accuracy"] == [stated[mark] for mark in record["right"]]
        assert found.shares["parse_rate"] == record["readable"]
        first, saved = found.samples[0], record["samples"][0]
        assert first.work["prefill_tokens_per_second"] == (
            saved["prefill_tokens"],
            saved["prefill_seconds"],
        )


def test_version_1_is_judged_but_for_its_times(version_1: list[dict[str, Any]]) -> None:
    """They were means, which medians cannot be compared with."""
    found = read_evidence(version_1[0])
    limits = [
        Limit("prefill_tokens_per_second", 10),
        Limit("time_to_first_token_ms", 10),
        Limit("peak_rss_mib", 10),
        Limit("examples_per_voter", 10),
    ]
    findings = judge(found, found, limits)
    assert [one.difference is None for one in findings] == [False, True, False, False]
    assert "not judged: time_to_first_token_ms, which one side does not have" in list(
        describe(findings)
    )


@pytest.mark.parametrize("record", [{}, {"version": 3}])
def test_another_version_is_refused(record: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        read_evidence(record)
