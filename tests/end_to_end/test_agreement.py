"""The real engines with the weights of one file: three full rows, which agree as far as their
arithmetic goes."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.comparison.agreement import LARGEST_TOLERANCE, MEDIAN_TOLERANCE
from harness.comparison.compare import agreements
from harness.engine.interpreters import find_interpreter
from harness.engine.registry import find_backend
from harness.engine.session import check_backend
from harness.pipeline.run import run
from harness.spec import RunSpec
from harness.store.runs import Results

SPEC = RunSpec(
    backend=("llama-cpp", "hf", "vllm"),
    backends={"hf": {"dtype": "float32"}, "vllm": {"dtype": "float32", "enforce_eager": True}},
    voters=2,
    queries=4,
    calibration_queries=4,
    max_model_len=256,
    decoding="score",
)
TIMEOUT_SECONDS = 120.0


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one run over all of them."""
    folder = tmp_path_factory.mktemp("results")
    for name in SPEC.backend:
        target, python = find_backend(name).target, find_interpreter(name, None)
        availability = check_backend(target, TIMEOUT_SECONDS, folder / "log", python)
        if not availability.available:
            pytest.skip(f"{name}: {availability.reason}. {availability.remedy}")
    run(SPEC, folder)
    return folder


def test_every_engine_answers_the_same_tokens_and_evaluates_no_more_than_it_must(
    results: Path,
) -> None:
    with Results(results) as stored:
        runs = stored.run("latest").summary.runs
    assert [one.backend for one in runs] == list(SPEC.backend)
    for one in runs:
        assert (one.cells.done, one.cells.failed) == (16, 0)
        assert (one.tokens.same_as_first, one.tokens.own_difference) == (True, None)
        computed, least = one.speed.computed_tokens, one.speed.least_tokens
        assert computed is not None
        assert least is not None
        if one.speed.shared_block_tokens == 1:
            assert computed == least == one.speed.unique_tokens
        else:
            assert least <= computed <= 1.02 * least


def test_one_file_in_several_engines_gives_nearly_the_same_log_odds(results: Path) -> None:
    with Results(results) as stored:
        every = agreements(stored.entries("latest"))
    assert len(every) == 3
    for found in every:
        assert found.same_weights
        assert (found.prompts, found.labels.read, found.verdicts.queries) == (16, 8, 4)
        assert found.log_odds is not None
        assert found.log_odds.cells == 16
        # not the same to the bit: llama.cpp multiplies with 8-bit activations
        assert 0 < found.log_odds.median <= MEDIAN_TOLERANCE
        assert found.log_odds.largest <= LARGEST_TOLERANCE
        assert found.caveats == []
