"""What a test is called, what it takes, and the figures of its samples."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.bench.rows import BenchTest, Sample, deviation


@pytest.mark.parametrize(
    ("test", "name"),
    [
        (BenchTest(512, 0, 0, 1), "pp512"),
        (BenchTest(512, 0, 4096, 16), "pp512 @ d4096"),
        (BenchTest(0, 128, 0, 4), "tg128"),
        (BenchTest(0, 128, 4096, 1), "tg128 @ d4096"),
        (BenchTest(512, 0, 4096, 1, is_cached=True), "pp512 @ d4096 cached"),
    ],
)
def test_names_are_llama_benchs(test: BenchTest, name: str) -> None:
    assert test.name == name


def test_prompts_are_timed_cold_and_cached_and_generation_once() -> None:
    cold, cached = BenchTest(512, 0, 7, 2).rows
    assert (cold.name, cached.name) == ("pp512 @ d7", "pp512 @ d7 cached")
    assert BenchTest(0, 128, 7, 2).rows == (BenchTest(0, 128, 7, 2),)


def test_a_test_takes_its_depth_and_its_tokens() -> None:
    assert BenchTest(512, 0, 100, 4).longest == 612
    assert BenchTest(0, 128, 100, 4).longest == 230
    assert BenchTest(512, 0, 100, 4).wanted_tokens == 2048
    assert BenchTest(0, 128, 100, 4).wanted_tokens == 512


def test_speed_is_of_the_tokens_that_count() -> None:
    assert Sample(tokens=64, evaluated=1, seconds=0.5).tokens_per_second == 128


@given(st.lists(st.floats(0, 1e6), min_size=2, max_size=9))
def test_deviation_is_the_samples(values: list[float]) -> None:
    assert deviation(values) == pytest.approx(np.std(values, ddof=1), abs=1e-6)


def test_one_value_does_not_deviate() -> None:
    assert deviation([3.0]) == 0.0
