"""Two real engines with the weights of one file: close, as far as their arithmetic goes."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.cli.agreement import read_agreements
from harness.cli.kept import open_store, read_kept
from harness.config import RunSpec
from harness.engine.interpreters import find_interpreter
from harness.engine.registry import find_backend
from harness.engine.session import check_backend
from harness.run import run
from harness.scoring.agreement import LARGEST_TOLERANCE, MEDIAN_TOLERANCE

SPEC = RunSpec(
    backend=("llama-cpp", "hf"),
    backends={"hf": {"dtype": "float32"}},
    voters=2,
    queries=4,
    calibration_queries=4,
    max_model_len=256,
    decoding="score",
)
TIMEOUT_SECONDS = 120.0


def test_one_file_in_two_engines_gives_nearly_the_same_log_odds(tmp_path: Path) -> None:
    for name in SPEC.backend:
        target, python = find_backend(name).target, find_interpreter(name, None)
        availability = check_backend(target, TIMEOUT_SECONDS, tmp_path / "log", python)
        if not availability.available:
            pytest.skip(f"{name}: {availability.reason}. {availability.remedy}")
    summary = run(SPEC, tmp_path)
    with open_store(tmp_path) as store:
        [found] = read_agreements(store, [read_kept(store.run(summary.run_id), tmp_path)])
    assert found.same_weights
    assert (found.prompts, found.labels.read, found.verdicts.queries) == (16, 8, 4)
    assert found.log_odds is not None
    assert found.log_odds.cells == 16
    # not the same to the bit: llama.cpp multiplies with 8-bit activations
    assert 0 < found.log_odds.median <= MEDIAN_TOLERANCE
    assert found.log_odds.largest <= LARGEST_TOLERANCE
    assert found.caveats == []
