from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from harness.comparison.metrics import METRICS
from harness.imports.llama_bench import read_harness_bench, read_llama_bench
from harness.imports.records import Figure
from tests.unit.imports.conftest import HARNESS_BENCH, LLAMA_BENCH


def test_a_row_of_llama_bench() -> None:
    [row] = read_llama_bench(LLAMA_BENCH)
    assert (row.tool, row.tool_version) == ("llama-bench", "0123abc (9876)")
    assert (row.engine, row.test, row.is_mock) == ("llama.cpp", "pp64", False)
    assert row.figures == (
        Figure(
            metric="prefill_tokens_per_second",
            unit="tokens/s",
            value=400.5,
            samples=(402.5, 398.5),
        ),
    )
    assert row.conditions["n_threads"] == "2"
    assert row.conditions["cpu_info"] == "Some CPU"
    assert "gpu_info" not in row.conditions


def test_folders_are_not_stored() -> None:
    [row] = read_llama_bench(LLAMA_BENCH)
    assert row.model == "tiny.gguf, llama 256M Q4_1"
    assert "someone" not in row.model_dump_json()


@pytest.mark.parametrize(
    ("lengths", "test", "metric"),
    [
        ((512, 0, 0), "pp512", "prefill_tokens_per_second"),
        ((512, 0, 4096), "pp512 @ d4096", "prefill_tokens_per_second"),
        ((0, 128, 0), "tg128", "decode_tokens_per_second"),
        ((512, 128, 16), "pp512+tg128 @ d16", "total_tokens_per_second"),
    ],
)
def test_what_is_timed_decides_the_metric(
    lengths: tuple[int, int, int], test: str, metric: str
) -> None:
    changed = dict(zip(("n_prompt", "n_gen", "n_depth"), lengths, strict=True))
    [row] = read_llama_bench({**LLAMA_BENCH, **changed})
    assert (row.test, [figure.metric for figure in row.figures]) == (test, [metric])
    assert (metric in METRICS) == (0 in lengths[:2])


def test_rows_of_before_there_were_depths_and_build_numbers() -> None:
    old = {k: v for k, v in LLAMA_BENCH.items() if k not in ("n_depth", "build_number")}
    [row] = read_llama_bench(old)
    assert (row.test, row.tool_version) == ("pp64", "0123abc")


@pytest.mark.parametrize(
    "changed",
    [
        {"n_prompt": 0},
        {"n_prompt": -1},
        {"n_prompt": "64"},
        {"n_prompt": True},
        {"avg_ts": 0.0},
        {"avg_ts": float("nan")},
        {"samples_ts": []},
        {"samples_ts": [1.0, None]},
        {"samples_ts": [1.0, float("inf")]},
        {"model_filename": 3},
    ],
)
def test_what_is_not_as_expected_is_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        read_llama_bench({**LLAMA_BENCH, **changed})


def test_a_row_of_harness_bench() -> None:
    [row] = read_harness_bench(HARNESS_BENCH)
    assert (row.tool, row.engine, row.test) == ("harness bench", "transformers 5.1", "pp64 @ d128")
    assert row.model == "smollm2-135m, llama bfloat16"
    speed, memory = row.figures
    assert (speed.metric, speed.value, speed.samples) == (
        "prefill_tokens_per_second",
        300.0,
        (299.0, 301.0),
    )
    assert (memory.metric, memory.unit, memory.value) == ("peak_rss_mib", "MiB", 512.5)
    assert {speed.metric, memory.metric} <= METRICS.keys()


def test_cached_prompts_are_no_prefill_and_a_mock_is_marked() -> None:
    stated = {**HARNESS_BENCH, "cached": True, "batch": 4, "mock": True, "peak_rss_mib": None}
    [row] = read_harness_bench(stated)
    assert row.test == "pp64 @ d128 cached, batch 4"
    assert [figure.metric for figure in row.figures] == ["cached_tokens_per_second"]
    assert row.is_mock
