"""Runs that are repeated on the mock, by stand-ins for pytest-benchmark's fixture."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.engine.engine import Engine
from harness.engine.session import EngineSession
from harness.errors import EngineError
from harness.spec import RunSpec
from harness.store.store import Store
from harness.summary import RunSummary
from harness.testing.evidence import EXTRA_INFO, Evidence
from harness.testing.rounds import Arguments, repeat


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
    benchmark: Enabled, data: str, results: Path, rounds: int = 3, **options: Any
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
    with Store(results) as store, Engine("mock", spec, results / "log") as engine:
        return repeat(benchmark, engine, spec, store, None, rounds)


def test_every_round_is_cold_and_a_run_of_its_own(small_data: str, tmp_path: Path) -> None:
    benchmark = Enabled()
    result = repeated(benchmark, small_data, tmp_path)
    saved = Evidence.model_validate(benchmark.extra_info[EXTRA_INFO])
    with Store(tmp_path) as store:
        kept = [row.run_id for row in store.runs() if row.summary]
    assert sorted(sample.run_id for sample in saved.samples) == sorted(kept)
    assert len(kept) == 3
    assert {sample.prefill_tokens for sample in saved.samples} == {result.speed.unique_tokens}
    assert all(sample.prefill_seconds > 0 for sample in saved.samples)
    assert saved.is_mock


def test_what_is_saved_agrees_with_the_summary(small_data: str, tmp_path: Path) -> None:
    benchmark = Enabled()
    result = repeated(benchmark, small_data, tmp_path, rounds=1, script="0|1|maybe")
    saved = Evidence.model_validate(benchmark.extra_info[EXTRA_INFO])
    assert len(saved.right) == len(saved.readable) == 5
    assert saved.accuracy is not None
    assert saved.metrics["accuracy"] == saved.accuracy.value
    answered = len(saved.right) - saved.right.count("-")
    assert saved.right.count("1") / answered == saved.accuracy.value
    assert result.parse.lenient is not None
    shares = [share for share in saved.readable if share is not None]
    assert sum(shares) / len(shares) == pytest.approx(result.parse.lenient.value)


def test_a_disabled_benchmark_is_one_round(small_data: str, tmp_path: Path) -> None:
    benchmark = Disabled()
    assert repeated(benchmark, small_data, tmp_path).cells.done == 12
    assert len(benchmark.extra_info[EXTRA_INFO]["samples"]) == 1


def test_an_engine_lost_at_the_end_of_a_round_is_begun_anew(
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
    """It is there, and would not do so in a session that is begun anew either."""

    def forget(self: EngineSession) -> None:
        raise EngineError("no memory to forget")

    monkeypatch.setattr(EngineSession, "forget", forget)
    with pytest.raises(EngineError, match="no memory to forget"):
        repeated(Enabled(), small_data, tmp_path)


def test_a_round_without_any_reply_says_why(small_data: str, tmp_path: Path) -> None:
    benchmark = Enabled()
    with pytest.raises(EngineError, match=r"every cell failed; mock: .* killed"):
        repeated(benchmark, small_data, tmp_path, crash_at=1, batch=100)
    assert not benchmark.extra_info
