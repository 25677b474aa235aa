"""The real engines with the weights of one file: three full rows, which agree as far as their
arithmetic goes, from engines of which never two are in memory at once."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
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
    # Two threads wait for each other, for long beside the tests of another process.
    backends={
        "llama-cpp": {"threads": 1},
        "hf": {"threads": 1, "dtype": "float32"},
        "vllm": {"threads": 1, "dtype": "float32", "enforce_eager": True},
    },
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
    with _workers_peak() as peak:
        run(SPEC, folder)
    (folder / "peak").write_text(str(peak[0]))
    return folder


@contextmanager
def _workers_peak() -> Iterator[list[float]]:
    """The most MiB that the processes started meanwhile held together, sampled twenty times a
    second.

    A process that has just been forked, and has not begun its own program, still shows the memory
    of its parent: it is not counted.
    """
    ours, ended, peak = psutil.Process(), threading.Event(), [0.0]
    before = set(ours.children(recursive=True))

    def watch() -> None:
        while not ended.wait(0.05):
            total = 0
            for process in set(ours.children(recursive=True)) - before:
                with suppress(psutil.Error):
                    parent = process.parent()
                    if parent is None or parent.cmdline() != process.cmdline():
                        total += process.memory_info().rss
            peak[0] = max(peak[0], total / 2**20)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield peak
    finally:
        ended.set()
        watcher.join()


def test_every_engine_answers_the_same_tokens_and_evaluates_no_more_than_it_must(
    results: Path,
) -> None:
    with Results(results) as stored:
        runs = stored.run("latest").summary.runs
    assert [one.backend for one in runs] == list(SPEC.backend)
    for one in runs:
        assert (one.cells.done, one.cells.failed) == (16, 0)
        assert one.tokens
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
        assert found.log_odds.prompts == 16
        # not the same to the bit: llama.cpp multiplies with 8-bit activations
        assert 0 < found.log_odds.median <= MEDIAN_TOLERANCE
        assert found.log_odds.largest <= LARGEST_TOLERANCE
        assert found.caveats == []


def test_the_largest_engine_is_the_most_memory_that_a_run_takes(results: Path) -> None:
    with Results(results) as stored:
        peaks = [one.memory.peak_rss_mib for one in stored.run("latest").summary.runs]
    known = [peak for peak in peaks if peak is not None]
    assert len(known) == 3
    together = float((results / "peak").read_text())
    # Two that look at it now and then do not see the same peaks.
    assert max(known) * 0.8 < together < max(known) * 1.15 < sum(known)
