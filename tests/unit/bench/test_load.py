"""Requests of fixed length over the mock, whose times are known."""

from __future__ import annotations

import json
from pathlib import Path
from unittest.mock import patch

import pytest

from harness.bench.load import _Timed, load_tests
from harness.bench.rows import LoadRow, Plan
from harness.bench.timing import bench
from harness.contract import Batch, Reply
from harness.engine.engine import Engine
from harness.errors import UsageError
from harness.report.bench import bench_answer
from harness.report.formats import as_csv, as_json
from harness.spec import RunSpec

PLAN = Plan(prompt_tokens=(20,), generate_tokens=(6,), repetitions=10)
SPEC = RunSpec(
    backend=("mock",), engine={"concurrency": 2, "tokens_per_second": 1000, "delay_ms": 100}
)


def test_lengths_are_combined_and_a_length_of_nought_is_left_out() -> None:
    plan = Plan(prompt_tokens=(0, 20), generate_tokens=(0, 6), depth=(0, 8))
    assert [(test.name, test.longest) for test in load_tests(plan)] == [
        ("tg6", 7),
        ("pp20", 21),
        ("pp20+tg6", 26),
        ("tg6 @ d8", 15),
        ("pp20 @ d8", 29),
        ("pp20+tg6 @ d8", 34),
    ]


def test_requests_take_what_the_mock_says_cold_and_cached(tmp_path: Path) -> None:
    rows = list(bench(PLAN, SPEC, tmp_path))
    cold, cached = (row for row in rows if isinstance(row, LoadRow))
    assert [row.test.name for row in (cold, cached)] == ["pp20+tg6", "pp20+tg6 cached"]
    assert (cold.requests, cold.failed, cold.concurrency, cold.cached_tokens) == (20, 0, 2, 0)
    assert cold.request_time_to_first_token_ms is not None
    assert cold.request_time_to_first_token_ms.p50.value == pytest.approx(100 + 20 * 2)
    assert cold.request_time_per_output_token_ms is not None
    assert cold.request_time_per_output_token_ms.p50.value == pytest.approx(2)
    assert cold.requests_per_second is not None
    assert cold.requests_per_second.value == pytest.approx(2 / 0.150)
    assert cold.output_tokens_per_second is not None
    assert cold.output_tokens_per_second.value == pytest.approx(6 * 2 / 0.150)
    assert cold.info.allocated_context == 26

    answer = bench_answer(rows)
    data = json.loads(as_json(answer))
    assert data["rows"] == []
    assert [row["concurrency"] for row in data["load"]] == [2, 2]
    assert "request_seconds.p99.value" in as_csv(answer).splitlines()[0]


@pytest.mark.parametrize("repetitions", [1, 3])
def test_requests_at_the_same_time_add_no_seconds(tmp_path: Path, repetitions: int) -> None:
    plan = Plan(prompt_tokens=(20,), generate_tokens=(6,), repetitions=repetitions)
    for row in bench(plan, SPEC, tmp_path):
        assert isinstance(row, LoadRow)
        assert row.requests == 2 * repetitions
        assert row.requests_per_second is not None
        assert row.requests_per_second.value == pytest.approx(row.requests / row.seconds)


def test_what_failed_took_its_time() -> None:
    """A server that answers one request in a second, and lets another wait for nine."""
    answered, failed = Reply(0, "stop", 20), Reply(1, "failed", 20)
    timed = _Timed.of([Batch((answered,), 0.0, 1.0), Batch((failed,), 1.0, 10.0)])
    rate = timed.rate(lambda _: 1)
    assert rate is not None
    assert rate.value == pytest.approx(1 / 10)


def test_a_server_is_opened_once(tmp_path: Path) -> None:
    """To load a model may take minutes."""
    plan = Plan(prompt_tokens=(20,), generate_tokens=(6,), repetitions=1)
    with patch.object(Engine, "load", autospec=True, side_effect=Engine.load) as load:
        rows = list(bench(plan, SPEC, tmp_path))
    opened = {id(call.args[0]) for call in load.call_args_list}
    assert (len(rows), len(opened)) == (2, 1)


def test_rows_of_csv_have_the_same_columns_whatever_is_null(tmp_path: Path) -> None:
    """Of a reply of one token there is no time for each further one."""
    plan = Plan(prompt_tokens=(20,), generate_tokens=(1, 6), repetitions=1)
    header = as_csv(bench_answer(list(bench(plan, SPEC, tmp_path)))).splitlines()[0].split(",")
    assert "request_time_per_output_token_ms.p50.value" in header
    assert "request_time_per_output_token_ms" not in header


def test_batches_are_refused_under_load(tmp_path: Path) -> None:
    plan = Plan(prompt_tokens=(20,), generate_tokens=(6,), batch=(4,))
    with pytest.raises(UsageError, match="--batch is for engines"):
        list(bench(plan, SPEC, tmp_path))
