"""What a side gives of each metric: made by hand, and read back from a store."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from harness.comparison.metrics import METRICS
from harness.comparison.samples import (
    decode_work,
    first_token_times,
    prefill_work,
    readable_by_query,
    right_by_query,
    samples_of,
)
from harness.imports.records import Figure, ImportRow
from harness.pipeline.run import run
from harness.spec import RunSpec
from harness.stats.significance import Samples, Times, Work
from harness.store.runs import Results, StoredEntry
from harness.store.schema import BatchRow
from tests.unit.comparison.made import Made, entry, imported

SPEEDS = ("prefill_tokens_per_second", "decode_tokens_per_second")


def test_verdicts_go_by_rows_and_what_has_none_is_not_there() -> None:
    assert right_by_query(entry(Made("+-.+"))) == {100: 1.0, 101: 0.0, 103: 1.0}


def test_a_query_is_readable_as_far_as_its_replies_are() -> None:
    made = entry(Made("++++", unread=(1, 3)))
    assert readable_by_query(made) == {100: 1.0, 101: 0.0, 102: 1.0, 103: 0.0}


def test_each_attempt_is_a_reply_that_could_be_read_or_not() -> None:
    made = Made("++++").store
    again = [
        replace(cell, attempt=1, reply=replace(cell.reply, text="maybe"))
        for cell in made.cells_of
        if cell.reply
    ]
    twice = entry(store=replace(made, cells_of=[*made.cells_of, *again]), attempts=2)
    assert readable_by_query(twice) == {100: 0.5, 101: 0.5, 102: 0.5, 103: 0.5}


def test_where_nothing_is_parsed_nothing_is_readable() -> None:
    parse = entry().summary.parse.model_copy(update={"lenient": None})
    assert readable_by_query(entry(Made(summary={"parse": parse}))) == {}


def test_speeds_are_tokens_over_seconds_in_blocks_of_batches() -> None:
    found = entry(Made(batches=[(10, 1.0), (30, 1.0)] * 16))
    for work in (prefill_work(found), decode_work(found)):
        assert len(work.took) < 32
        assert (work.amounts.sum(), work.took.sum()) == (16 * 40, 32)


def test_times_are_those_of_all_replies_in_blocks_of_batches() -> None:
    found = first_token_times(entry())
    assert [len(block) for block in found.blocks] == [2] * 8
    assert found.figure == 20.0
    assert first_token_times(entry(Made(first_token_ms=0))).blocks == ()


def test_a_block_in_which_nothing_was_done_is_no_sample() -> None:
    """Its seconds are in the figure all the same, as in that of the table."""
    found = prefill_work(entry(Made(batches=[(10, 1.0), (0, 1.0)] * 4)))
    assert found.amounts.tolist() == [10.0] * 4
    assert found.took.sum() == 8
    assert found.figure == 40 / 8


@pytest.mark.parametrize("batches", [[], [(0, 0.0)]])
def test_a_run_that_did_nothing_has_no_samples(batches: list[tuple[int, float]]) -> None:
    assert len(prefill_work(entry(Made(batches=batches))).took) == 0


def test_what_an_engine_does_not_report_of_a_batch_is_left_out() -> None:
    made = Made(batches=[(10, 1.0)] * 16).store
    batches = [
        replace(batch, decode_tokens=None, decode_seconds=None if batch.id % 4 else 1.0)
        if batch.id % 2
        else replace(batch, prefill_seconds=None)
        for batch in made.batches_of
    ]
    found = entry(store=replace(made, batches_of=batches))
    assert prefill_work(found).amounts.sum() == decode_work(found).amounts.sum() == 80
    none = [replace(b, prefill_tokens=None, prefill_seconds=None) for b in batches]
    assert len(prefill_work(entry(store=replace(made, batches_of=none))).took) == 0


def overlapping(seconds: float) -> list[BatchRow]:
    """Two batches at any time; the second of each two ends first."""
    pairs = [(2.0 * i, end) for i in range(40) for end in (2.0 * i + 2, 2.0 * i + 1)]
    return [
        BatchRow(place, 1, seconds * began, seconds * ended, 10, seconds, 10, seconds)
        for place, (began, ended) in enumerate(pairs, start=1)
    ]


def test_batches_that_overlap_are_in_blocks_of_busy_time() -> None:
    """80 s in which the engine was busy are 16 samples of 5 s, though the batches last 120 s."""
    made = replace(Made().store, batches_of=overlapping(1.0), cells_of=[])
    found = prefill_work(entry(store=made))
    assert len(found.took) == 16
    assert found.took.sum() == 80


def test_each_session_has_a_clock_of_its_own() -> None:
    once = overlapping(1.0)
    later = [replace(one, id=one.id + len(once), session_id=2) for one in once]
    made = replace(Made().store, batches_of=[*once, *later], cells_of=[])
    found = prefill_work(entry(store=made))
    assert len(found.took) == 30
    assert (found.took.sum(), found.took.max()) == (160, 6)


def of_import(name: str, row: ImportRow) -> Samples:
    found = samples_of(METRICS[name], row)
    assert isinstance(found, Work | Times | np.ndarray)
    return found


def test_repetitions_of_another_tool_are_samples() -> None:
    speed = Figure(
        metric="decode_tokens_per_second", unit="tokens/s", value=150.0, samples=(100.0, 200.0)
    )
    mean = Figure(metric="mean_time_to_first_token_ms", unit="ms", value=30.0)
    median = Figure(metric="time_to_first_token_ms", unit="ms", value=29.0)
    row = imported(speed, mean, median)
    work = of_import(speed.metric, row)
    assert isinstance(work, Work)
    assert work.levels.tolist() == [100.0, 200.0]
    assert [metric for metric in METRICS if samples_of(METRICS[metric], row) is not None] == [
        speed.metric,
        median.metric,
    ]
    times = of_import(median.metric, row)
    assert isinstance(times, Times)
    assert times.figure == 29.0
    sampled = of_import(
        median.metric, imported(median.model_copy(update={"samples": (20.0, 40.0)}))
    )
    assert isinstance(sampled, Times)
    assert (sampled.figure, len(sampled.blocks)) == (30.0, 2)


def test_requests_of_another_tool_are_in_blocks_in_order() -> None:
    every = tuple(float(request + 1) for request in range(1000))
    row = imported(Figure(metric="time_to_first_token_ms", unit="ms", value=1.0, samples=every))
    found = of_import("time_to_first_token_ms", row)
    assert isinstance(found, Times)
    assert len(found.blocks) == 30
    assert np.concatenate(found.blocks).tolist() == list(every)


def test_one_figure_of_a_worker_is_a_sample() -> None:
    peak = Figure(metric="peak_rss_mib", unit="MiB", value=300.0)
    [sample] = of_import(peak.metric, imported(peak))  # type: ignore[misc]
    assert sample == 300.0
    own = samples_of(METRICS[peak.metric], entry())
    assert isinstance(own, np.ndarray)
    assert own.tolist() == [entry().summary.memory.peak_rss_mib]
    assert samples_of(METRICS["examples_per_voter"], entry()) == 36.5


def test_a_share_of_another_tool_is_so_many_right_queries() -> None:
    accuracy = Figure(metric="accuracy", unit="share", value=0.625, count=200)
    right = samples_of(METRICS["accuracy"], imported(accuracy, engine=""))
    assert isinstance(right, dict)
    assert (len(right), sum(right.values())) == (200, 125)


def test_a_share_over_nobody_knows_how_many_has_no_queries() -> None:
    accuracy = Figure(metric="accuracy", unit="share", value=0.625)
    assert samples_of(METRICS["accuracy"], imported(accuracy)) == {}


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory, small_data: str) -> Iterator[StoredEntry]:
    """A run of the mock, which answers some queries with what is no label."""
    folder: Path = tmp_path_factory.mktemp("results")
    spec = RunSpec(
        backend=("mock",),
        data=small_data,
        voters=2,
        queries=12,
        calibration_queries=2,
        max_model_len=200,
        engine={"script": "no|yes|neither", "tokens_per_second": 500, "jitter": 0.1},
    )
    run(spec, folder)
    with Results(folder) as results:
        [entry] = results.entries("latest")
        yield entry


def test_what_is_compared_is_what_the_table_shows(stored: StoredEntry) -> None:
    """Of every metric."""
    assert len(stored.run.prompts) == len(stored.tokens) == len(stored.cells) == 2 * (12 + 2)
    for metric in METRICS.values():
        found, shown = samples_of(metric, stored), metric.figure(stored.summary)
        if isinstance(found, dict):
            assert len(found) == 12
            assert sum(found.values()) / 12 == pytest.approx(shown)
        elif isinstance(found, Work | Times):
            assert found.figure == pytest.approx(shown)
        else:
            assert found == shown


def test_batches_and_times_go_together(stored: StoredEntry) -> None:
    times = [cell.reply.time_to_first_token_ms for cell in stored.cells if cell.reply]
    found = np.concatenate(first_token_times(stored).blocks)
    assert sorted(found) == pytest.approx(sorted(time for time in times if time))
