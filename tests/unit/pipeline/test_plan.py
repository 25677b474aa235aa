"""What a run would take, before it is begun: by earlier runs of the mock, or by a few prompts."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from harness.contract import SessionInfo
from harness.pipeline.pace import Pace, earlier_paces, least_tokens, pace_of, processors_of
from harness.pipeline.plan import PlannedEntry, RunPlan, plan_run
from harness.pipeline.prompting import Update
from harness.pipeline.run import run, run_group
from harness.report.plan import plan_answer
from harness.spec import RunSpec
from harness.store.runs import Results
from harness.store.store import Store


def spec(data: str, **changes: Any) -> RunSpec:
    plain: dict[str, Any] = {"voters": 3, "queries": 8, "calibration_queries": 2}
    options = {"delay_ms": 2, **changes.pop("engine", {})}
    return RunSpec(
        backend=("mock",), data=data, baselines=False, engine=options, **(plain | changes)
    )


def entry(found: RunPlan) -> PlannedEntry:
    [one] = found.entries
    return one


def test_tokens_and_prompts_have_a_pace_each() -> None:
    batches = [(1000, 1, 10.1), (64, 64, 7.04), (1000, 1, 10.1), (10, 10, 1.1)]
    found = pace_of(batches, load_seconds=3, block=1)
    assert found.token_seconds == pytest.approx(0.01)
    assert found.prompt_seconds == pytest.approx(0.1)


def test_without_tokens_the_prompts_have_all_of_the_time() -> None:
    found = pace_of([(None, 4, 8.0), (None, 2, 4.0)], load_seconds=3, block=1)
    assert found.token_seconds == 0
    assert found.prompt_seconds == pytest.approx(2)


def test_a_plan_has_the_figures_of_the_run_and_stores_none(tmp_path: Path, small_data: str) -> None:
    given = spec(small_data, engine={"memory_gib": 0.5})
    found = plan_run(given, tmp_path)
    with Results(tmp_path) as stored:
        assert not list(stored)
    summary = run(given, tmp_path)
    [done] = summary.runs
    one = entry(found)
    assert one.prompts == done.cells.done == 3 * (8 + 2)
    assert one.prefill_tokens == done.speed.unique_tokens
    assert (one.source, one.earlier_runs) == ("a short probe", 0)
    assert one.memory is not None
    assert one.memory.weights_bytes == 2**29
    assert found.examples_per_voter == done.context_fit.examples_per_voter
    assert found.seconds is not None
    assert found.seconds.interval.low < found.seconds.value < found.seconds.interval.high
    assert one.seconds is not None
    assert found.seconds.value == pytest.approx(one.seconds.value + found.harness_seconds)


def test_earlier_runs_say_how_long_a_larger_one_takes(tmp_path: Path, small_data: str) -> None:
    """The mock's clock goes on by the tokens alone."""
    speed = {"tokens_per_second": 1000}
    for _ in range(2):
        run(spec(small_data, engine=speed), tmp_path)
    with Results(tmp_path) as stored:
        [batches] = {sum(b.ended - b.began for b in one.entry("mock").batches) for one in stored}
        loads = [one.entry("mock").sessions[0].load_seconds or 0.0 for one in stored]
    found = entry(plan_run(spec(small_data, engine=speed), tmp_path))
    assert (found.source, found.earlier_runs) == ("earlier runs", 2)
    assert found.seconds is not None
    assert found.seconds.value == pytest.approx(batches + sum(loads) / 2, rel=0.02)
    more = entry(plan_run(spec(small_data, engine=speed, voters=6), tmp_path))
    assert more.seconds is not None
    assert more.seconds.value == pytest.approx(2 * found.seconds.value, rel=0.1)


def test_the_seconds_outside_the_engines_are_those_of_runs_that_did_as_much(
    tmp_path: Path, small_data: str
) -> None:
    """A small run says how fast the engine is, and not what drawing and packing takes."""
    run(spec(small_data), tmp_path)
    [stored] = Results(tmp_path)
    outside = stored.summary.harness_seconds
    assert outside is not None
    same = plan_run(spec(small_data, seed=3), tmp_path)
    assert same.harness_seconds == pytest.approx(outside)
    for changes in ({"voters": 6}, {"queries": 12}):
        with patch("harness.pipeline.plan.make_baselines") as fitted:
            more = plan_run(spec(small_data, **changes), tmp_path)
        assert entry(more).source == "earlier runs"
        assert fitted.called


def test_each_attempt_evaluates_what_is_no_whole_block() -> None:
    shared = tuple(range(1000))
    prompts = [(*shared, 2000 + n) for n in range(24)]
    assert least_tokens(prompts, 3, 1) == least_tokens(prompts, 1, 1) == 1024
    rest = 1001 % 32  # behind the last whole block
    assert least_tokens(prompts, 1, 32) == 1001 + 23 * rest
    assert least_tokens(prompts, 3, 32) == 1001 + 71 * rest


def test_what_others_leave_of_the_processors_counts(
    tmp_path: Path, small_data: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that had half of them, and a plan where a quarter is left."""
    run(spec(small_data, engine={"tokens_per_second": 1000}), tmp_path)
    given = spec(small_data, engine={"tokens_per_second": 1000})
    before = plan_run(given, tmp_path)
    asked: list[int] = []

    def paces(*given: Any) -> list[Pace]:
        return [replace(one, threads=2, share=0.5) for one in earlier_paces(*given)]

    def quarter(threads: int) -> float:
        asked.append(threads)
        return 0.25

    monkeypatch.setattr("harness.pipeline.plan.earlier_paces", paces)
    monkeypatch.setattr("harness.pipeline.pace.share_now", quarter)
    after = plan_run(given, tmp_path)
    assert asked == [2]
    assert before.seconds is not None
    assert after.seconds is not None
    assert after.seconds.value == pytest.approx(2 * before.seconds.value)
    assert after.harness_seconds == pytest.approx(2 * before.harness_seconds)


@pytest.mark.parametrize(
    ("device", "threads", "others", "found"),
    [
        ("cpu", 2, 0.75, (2, 0.25)),
        ("cpu", 1, 0.75, (1, 0.5)),
        ("cpu", 1, 0.1, (1, 1.0)),
        ("cuda:0", 2, 0.75, (None, 1.0)),
        ("cpu", 2, None, (None, 1.0)),
        ("cpu", 0, 0.75, (None, 1.0)),
    ],
)
def test_an_engine_on_the_cpu_has_what_others_leave_of_two(
    device: str, threads: int, others: float | None, found: tuple[int | None, float]
) -> None:
    info = SessionInfo("made", "made 1", "m", "w", device, threads, 999, 999, "0" * 64)
    assert processors_of(info, others, 2) == found


@pytest.mark.parametrize(
    "changes",
    [
        {"max_model_len": 500},
        {"decoding": "score"},
        {"engine": {"batch": 4}},
        {"model": ("another",)},
    ],
)
def test_a_run_that_is_unlike_says_nothing(
    tmp_path: Path, small_data: str, changes: dict[str, Any]
) -> None:
    run(spec(small_data), tmp_path)
    assert entry(plan_run(spec(small_data, **changes), tmp_path)).earlier_runs == 0


def test_the_bar_of_a_run_starts_from_earlier_ones(tmp_path: Path, small_data: str) -> None:
    seen: list[list[Update]] = [[], []]
    for updates in seen:
        run(spec(small_data), tmp_path, updates.append)
    forecasts = [
        {one.forecast_seconds for one in updates if one.entry == "mock"} for updates in seen
    ]
    assert forecasts[0] == {0.0}
    assert min(forecasts[1]) > 0


def test_earlier_runs_are_read_once_for_all_runs_of_a_group(
    tmp_path: Path, small_data: str
) -> None:
    """To read one takes a tenth of a second or more, and a group has many members."""
    earlier = run(spec(small_data), tmp_path).run_id
    with ExitStack() as watching:
        batches, cells, tokens = (
            watching.enter_context(
                patch.object(Store, name, autospec=True, side_effect=getattr(Store, name))
            )
            for name in ("batches", "cells", "prompt_tokens")
        )
        run_group("curve", [spec(small_data, shots=shots) for shots in (20, 21, 22)], tmp_path)
    assert [call.args[1] for call in batches.call_args_list].count(earlier) == 1
    # Of its cells and prompts only how many there are, and how long: it may have thousands.
    for read in (cells, tokens):
        assert earlier not in [call.args[1] for call in read.call_args_list]


def test_what_the_default_of_a_reply_came_to_is_alike(tmp_path: Path, small_data: str) -> None:
    run(spec(small_data), tmp_path)
    assert entry(plan_run(spec(small_data, max_tokens=8), tmp_path)).earlier_runs == 1
    assert entry(plan_run(spec(small_data, max_tokens=9), tmp_path)).earlier_runs == 0


def test_what_takes_too_much_memory_is_not_loaded_for_a_plan(
    tmp_path: Path, small_data: str
) -> None:
    found = plan_run(spec(small_data, engine={"memory_gib": 100_000}), tmp_path)
    one = entry(found)
    assert (one.failure or "").startswith("it would take 100000.0 GiB of memory for 1,024 tokens")
    assert found.seconds is None
    assert plan_answer([found]).data["plans"][0]["entries"][0]["memory"]["bytes_over"] > 2**40
