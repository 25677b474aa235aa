"""Runs that are repeated on the mock, by stand-ins for pytest-benchmark's fixture."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

import pytest

from harness.comparison.metrics import METRICS
from harness.engine.engine import Engine
from harness.engine.session import EngineSession
from harness.errors import EngineError, StoreError
from harness.pipeline.run import make_baselines, plan, prepare
from harness.spec import RunSpec
from harness.store.lock import prompting
from harness.store.store import Store
from harness.summary import RunSummary
from harness.testing.evidence import EXTRA_INFO, Evidence
from harness.testing.rounds import Arguments, Rounds, repeat


class Enabled:
    def __init__(self) -> None:
        self.extra_info: dict[str, Any] = {}

    def pedantic(
        self,
        target: Callable[[str], str],
        *,
        setup: Callable[[], Arguments],
        teardown: Callable[[str], None],
        rounds: int,
    ) -> str:
        last = ""
        for _ in range(rounds):
            arguments, named = setup()
            last = target(*arguments, **named)
            teardown(*arguments, **named)
        return last


class Disabled(Enabled):
    """As pytest-benchmark is then: one round, and no teardown."""

    def pedantic(
        self,
        target: Callable[[str], str],
        *,
        setup: Callable[[], Arguments],
        teardown: Callable[[str], None],
        rounds: int,
    ) -> str:
        arguments, named = setup()
        return target(*arguments, **named)


def repeated(
    benchmark: Enabled,
    data: str,
    results: Path,
    rounds: int = 3,
    fresh_engine: bool = False,
    **options: Any,
) -> RunSummary:
    spec = RunSpec(
        backend=("mock",),
        data=data,
        voters=2,
        queries=5,
        calibration_queries=1,
        max_model_len=300,
        engine=options,
    )
    opened = plan(spec, results)
    [planned] = opened.plans
    workload, _ = prepare(spec, opened, None)
    baselines = make_baselines(spec, workload)
    with Store(results) as store, Engine(planned, spec.max_model_len) as engine:
        whole = Rounds(engine, spec, workload, baselines, store, fresh_engine)
        return repeat(benchmark, whole, rounds)


def test_every_round_is_cold_and_a_run_of_its_own(small_data: str, tmp_path: Path) -> None:
    benchmark = Enabled()
    result = repeated(benchmark, small_data, tmp_path)
    saved = Evidence.model_validate(benchmark.extra_info[EXTRA_INFO])
    with Store(tmp_path) as store:
        stored = [row.run_id for row in store.runs() if row.summary]
    assert sorted(sample.run_id for sample in saved.samples) == sorted(stored)
    assert len(stored) == 3
    prefill = [sample.work["prefill_tokens_per_second"] for sample in saved.samples]
    assert {tokens for tokens, _ in prefill} == {result.speed.unique_tokens}
    assert all(seconds > 0 for _, seconds in prefill)
    assert [sample.session for sample in saved.samples] == [1, 1, 1]
    assert saved.is_mock


class Watched(Enabled):
    """Looks in each round whether another process could prompt the run."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder
        self.refused = 0

    def pedantic(self, target: Callable[[str], str], **given: Any) -> str:
        def look(run_id: str) -> str:
            with pytest.raises(StoreError, match="is in use"), another(run_id):
                pytest.fail("it is not locked")
            self.refused += 1
            return target(run_id)

        def another(run_id: str) -> AbstractContextManager[None]:
            return prompting(self.folder, run_id)

        return super().pedantic(look, **given)


@pytest.mark.parametrize("crash_at", [0, 1])
def test_no_other_process_prompts_the_run_of_a_round(
    small_data: str, tmp_path: Path, crash_at: int
) -> None:
    """Until it is finished, or has failed."""
    benchmark = Watched(tmp_path)
    with suppress(EngineError):
        repeated(benchmark, small_data, tmp_path, rounds=2, crash_at=crash_at, batch=100)
    assert benchmark.refused == (1 if crash_at else 2)
    assert not list(tmp_path.glob("*.lock"))


def test_what_is_saved_agrees_with_the_summary(small_data: str, tmp_path: Path) -> None:
    benchmark = Enabled()
    result = repeated(benchmark, small_data, tmp_path, rounds=1, script="no|yes|maybe")
    saved = Evidence.model_validate(benchmark.extra_info[EXTRA_INFO])
    right, readable = saved.shares["accuracy"], saved.shares["parse_rate"]
    assert len(right) == len(readable) == 5
    assert saved.accuracy is not None
    [sample] = saved.samples
    known = {name: figure for name, figure in figures_of(result).items() if figure is not None}
    assert sample.values == known
    answered = [one for one in right if one is not None]
    assert sum(answered) / len(answered) == saved.accuracy.value
    assert result.parse.lenient is not None
    shares = [share for share in readable if share is not None]
    assert sum(shares) / len(shares) == pytest.approx(result.parse.lenient.value)


def figures_of(result: RunSummary) -> dict[str, float | None]:
    return {name: metric.figure(result) for name, metric in METRICS.items()}


def test_with_a_fresh_engine_each_round_has_a_worker_of_its_own(
    small_data: str, tmp_path: Path
) -> None:
    benchmark = Enabled()
    repeated(benchmark, small_data, tmp_path, fresh_engine=True)
    saved = Evidence.model_validate(benchmark.extra_info[EXTRA_INFO])
    assert [sample.session for sample in saved.samples] == [1, 2, 3]
    assert all(sample.values["load_seconds"] for sample in saved.samples)
    assert all(sample.values["peak_rss_mib"] for sample in saved.samples)


def test_a_disabled_benchmark_is_one_round(small_data: str, tmp_path: Path) -> None:
    benchmark = Disabled()
    assert repeated(benchmark, small_data, tmp_path).cells.done == 12
    assert len(benchmark.extra_info[EXTRA_INFO]["samples"]) == 1


def test_an_engine_that_failed_at_the_end_of_a_round_is_loaded_again(
    small_data: str, tmp_path: Path
) -> None:
    """The mock dies with its third batch of four, and nothing is left to ask then."""
    benchmark = Enabled()
    result = repeated(benchmark, small_data, tmp_path, rounds=2, crash_at=9, batch=4)
    assert (result.cells.done, result.cells.failed) == (8, 4)
    assert len(benchmark.extra_info[EXTRA_INFO]["samples"]) == 2


def test_an_engine_that_cannot_forget_says_so(
    small_data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is there, and would not do so in a session that is opened again either."""

    def forget(self: EngineSession) -> None:
        raise EngineError("no memory to forget")

    monkeypatch.setattr(EngineSession, "forget", forget)
    with pytest.raises(EngineError, match="no memory to forget"):
        repeated(Enabled(), small_data, tmp_path)


def test_a_round_without_any_reply_says_why(small_data: str, tmp_path: Path) -> None:
    benchmark = Enabled()
    with pytest.raises(EngineError, match=r"mock gave no reply: .* killed"):
        repeated(benchmark, small_data, tmp_path, crash_at=1, batch=100)
    assert not benchmark.extra_info
