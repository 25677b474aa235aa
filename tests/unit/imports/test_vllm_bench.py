from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from harness.imports.records import Figure
from harness.imports.vllm_bench import as_of_now, read_latency, read_serve, read_throughput
from tests.unit.imports.conftest import LATENCY, SERVE, THROUGHPUT


def test_serve_has_medians_and_means_under_names_of_their_own() -> None:
    [row] = read_serve(SERVE)
    assert (row.tool, row.engine, row.model, row.test) == (
        "vllm bench",
        "openai",
        "org/model",
        "serve",
    )
    assert {figure.metric: figure.value for figure in row.figures} == {
        "request_time_to_first_token_ms": 499.0,
        "mean_request_time_to_first_token_ms": 500.0,
        "request_time_per_output_token_ms": 29.0,
        "mean_request_time_per_output_token_ms": 30.0,
        "inter_token_latency_ms": 27.0,
        "mean_inter_token_latency_ms": 28.0,
        "request_seconds": 0.998,
        "mean_request_seconds": 1.0,
        "output_tokens_per_second": 20.0,
        "total_tokens_per_second": 120.0,
        "requests_per_second": 1.0,
    }
    assert row.conditions["request_rate"] == "inf"
    assert {"label", "max_concurrency"}.isdisjoint(row.conditions)


def test_its_throughput_is_not_our_decode_speed() -> None:
    [row] = read_serve(SERVE)
    assert "decode_tokens_per_second" not in {figure.metric for figure in row.figures}


def test_requests_that_failed_are_no_samples() -> None:
    [row] = read_serve(SERVE)
    samples = {figure.metric: figure.samples for figure in row.figures if figure.samples}
    assert samples == {
        "request_time_to_first_token_ms": (250.0, 750.0),
        "request_seconds": (0.8, 1.2),
    }
    assert {figure.count for figure in row.figures} == {2}


def test_texts_and_folders_of_the_file_are_left_out() -> None:
    [row] = read_serve(SERVE)
    assert "a text" not in row.model_dump_json()
    assert "someone" not in row.model_dump_json()


def test_what_an_earlier_version_stored_gets_the_names_of_now() -> None:
    [row] = read_serve(SERVE)
    stored = row.model_copy(
        update={
            "figures": (
                Figure(metric="time_to_first_token_ms", unit="ms", value=499.0, count=2),
                Figure(metric="end_to_end_latency_ms", unit="ms", value=998.0),
                Figure(metric="requests_per_second", unit="requests/s", value=1.0),
            )
        }
    )
    assert [(one.metric, one.unit, one.value) for one in as_of_now(stored).figures] == [
        ("request_time_to_first_token_ms", "ms", 499.0),
        ("request_seconds", "s", 0.998),
        ("requests_per_second", "requests/s", 1.0),
    ]
    [other] = read_latency(LATENCY)
    assert as_of_now(other) is other


def test_what_was_not_measured_is_left_out_not_nought() -> None:
    silent = {**SERVE, "median_ttft_ms": 0.0, "mean_ttft_ms": 0.0, "ttfts": []}
    [row] = read_serve(silent)
    assert "request_time_to_first_token_ms" not in {figure.metric for figure in row.figures}
    failed = {key: 0.0 if isinstance(value, float) else value for key, value in silent.items()}
    assert read_serve({**failed, "completed": 0}) == []


def test_throughput() -> None:
    [row] = read_throughput(THROUGHPUT)
    assert (row.engine, row.model, row.test) == ("", "tiny", "throughput")
    assert [(one.metric, one.value, one.count) for one in row.figures] == [
        ("total_tokens_per_second", 250.0, 8),
        ("requests_per_second", 2.0, 8),
    ]


def test_latency_has_its_samples_in_ms() -> None:
    [row] = read_latency(LATENCY)
    assert [(one.metric, one.value) for one in row.figures] == [
        ("batch_latency_ms", 450.0),
        ("mean_batch_latency_ms", 500.0),
    ]
    assert {one.samples for one in row.figures} == {(250.0, 750.0)}


@pytest.mark.parametrize(
    "changed",
    [
        {"median_ttft_ms": "499"},
        {"output_throughput": -1.0},
        {"request_throughput": float("inf")},
        {"mean_itl_ms": True},
        {"completed": None},
        {"ttfts": [0.5, "x"]},
        {"model_id": None},
    ],
)
def test_what_is_not_as_expected_is_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        read_serve({**SERVE, **changed})
