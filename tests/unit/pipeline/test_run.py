"""The pipeline on the mock: whole, with losses, over several engines, and completed later."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psutil
import pytest

import prompts
from harness.engine.engine import Engine
from harness.errors import EngineError, HarnessError, StoreError, UsageError
from harness.pipeline.asking import Update
from harness.pipeline.run import resume, run
from harness.spec import RunSpec
from harness.store.store import Store
from harness.summary import CaveatKind, Summary


def spec(data: str, **changes: Any) -> RunSpec:
    plain = {
        "backend": "mock",
        "data": data,
        "voters": 1,
        "queries": 10,
        "calibration_queries": 2,
        "max_model_len": 300,
        "timeout_seconds": 20.0,
    }
    return RunSpec(**(plain | changes))


class InterruptionError(Exception):
    """What an observer raises to end a run."""


def interrupt(update: Update) -> None:
    if update.done >= 8:
        raise InterruptionError


def kinds(summary: Summary) -> set[CaveatKind]:
    return {caveat.kind for caveat in summary.runs[0].caveats}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, small_data: str) -> Summary:
    return run(spec(small_data), tmp_path_factory.mktemp("whole"))


def test_a_run_answers_every_cell_and_leaves_no_process(whole: Summary) -> None:
    [result] = whole.runs
    assert (result.cells.done, result.cells.failed) == (12, 0)
    assert result.speed.computed_tokens == result.speed.unique_tokens
    assert result.speed.computed_tokens
    assert result.context_fit.fill_ratio is not None
    assert 0 < result.context_fit.fill_ratio <= 1
    assert result.accuracy.queries == 10
    assert whole.wall_seconds is not None
    assert whole.harness_seconds is not None
    assert 0 < whole.harness_seconds <= whole.wall_seconds
    assert CaveatKind.MOCK in kinds(whole)
    assert not psutil.Process().children()


def test_several_engines_are_asked_the_same_prompts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_data: str
) -> None:
    """The mock stands for both; the second has less context, which then holds for both."""
    monkeypatch.setattr("harness.engine.engine.find_backend", lambda _: _mock())
    run_spec = spec(small_data, backend=("one", "two"), backends={"two": {"context": 200}})
    one, two = run(run_spec, tmp_path).runs
    assert one.prompts == two.prompts
    assert two.tokens.model_dump() == {
        "same_as_first": True,
        "tokenized_by": "one",
        "own_difference": None,
    }
    assert one.context_fit.examples_per_voter == two.context_fit.examples_per_voter
    assert (one.context_fit.allocated_context, two.context_fit.allocated_context) == (300, 200)
    assert one.cells.done == two.cells.done == 12
    assert two.cells.failed == 0


def test_a_run_goes_on_when_its_engine_is_lost(tmp_path: Path, small_data: str) -> None:
    summary = run(spec(small_data, engine={"crash_at": 5, "batch": 2}), tmp_path)
    [result] = summary.runs
    assert (result.cells.done, result.cells.failed) == (8, 4)
    assert {CaveatKind.CELLS_FAILED, CaveatKind.SEVERAL_SESSIONS} <= kinds(summary)
    assert CaveatKind.CELLS_MISSING not in kinds(summary)
    [again] = resume(summary.run_id, tmp_path).runs
    assert (again.cells.done, again.cells.failed) == (12, 0)


def test_a_run_without_any_answer_still_has_a_summary(tmp_path: Path, small_data: str) -> None:
    [result] = run(spec(small_data, engine={"crash_at": 1, "batch": 100}), tmp_path).runs
    assert (result.cells.done, result.cells.failed) == (0, 12)
    assert result.accuracy.majority is None
    assert result.speed.prefill_tokens_per_second is None


def test_shots_that_do_not_fit_are_refused_before_anything_is_asked(
    tmp_path: Path, small_data: str
) -> None:
    with pytest.raises(UsageError, match="--shots 50: at most 20 whole examples fit"):
        run(spec(small_data, shots=50), tmp_path)
    with Store(tmp_path) as store:
        assert not store.runs()


def test_an_interrupted_run_is_completed_to_the_same_answer(
    tmp_path: Path, whole: Summary, small_data: str
) -> None:
    with pytest.raises(InterruptionError):
        run(spec(small_data), tmp_path, interrupt)
    assert not psutil.Process().children()
    with Store(tmp_path) as store:
        assert store.run("latest").summary is None
        assert len(store.cells(store.run("latest").run_id, "mock")) == 8
    updates: list[Update] = []
    [result] = resume("latest", tmp_path, updates.append).runs
    assert (updates[0].done, updates[-1].done) == (8, 12)
    [expected] = whole.runs
    same = ("accuracy", "parse", "cells", "context_fit", "controls", "prompts")
    assert {n: getattr(result, n) for n in same} == {n: getattr(expected, n) for n in same}


def test_a_run_that_ended_before_its_prompts_were_kept_is_completed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_data: str
) -> None:
    def save_nothing(*_: object) -> None:
        raise InterruptionError

    with monkeypatch.context() as patched, pytest.raises(InterruptionError):
        patched.setattr(Store, "save_prompts", save_nothing)
        run(spec(small_data), tmp_path)
    assert resume("latest", tmp_path).runs[0].cells.done == 12


def test_a_complete_run_is_resumed_without_asking_anything(tmp_path: Path, small_data: str) -> None:
    first = run(spec(small_data, queries=2), tmp_path)
    again = resume(first.run_id, tmp_path)
    assert again.runs == first.runs


def test_a_run_whose_prompts_have_changed_is_not_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_data: str
) -> None:
    template = tmp_path / "mine.toml"
    text = (prompts.FOLDER / "compact.toml").read_text()
    template.write_text(text)
    with pytest.raises(InterruptionError):
        run(spec(small_data, prompt=str(template)), tmp_path, interrupt)
    template.write_text(text.replace("Classify", "Sort"))
    with pytest.raises(StoreError, match="asked other prompts") as caught:
        resume("latest", tmp_path)
    assert caught.value.remedy
    assert not psutil.Process().children()


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"backend": "lama"}, UsageError),
        ({"engine": {"speed": 1}}, UsageError),
        ({"max_model_len": 40}, UsageError),
        ({"prompt": "none"}, HarnessError),
        ({"data": "none"}, HarnessError),
        ({"backend": "llama-cpp", "model": "none.gguf"}, EngineError),
    ],
)
def test_what_cannot_be_run_is_told_and_leaves_no_run(
    tmp_path: Path, wrong: dict[str, Any], error: type[HarnessError], small_data: str
) -> None:
    with pytest.raises(error) as caught:
        run(spec(**({"data": small_data} | wrong)), tmp_path)
    assert caught.value.remedy
    assert not psutil.Process().children()
    with Store(tmp_path) as store:
        assert store.runs() == []


def _mock() -> object:
    from harness.engine.registry import find_backend

    return find_backend("mock")


def test_a_run_is_not_completed_by_another_engine(
    small_data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InterruptionError):
        run(spec(small_data), tmp_path, interrupt)
    monkeypatch.setattr(Engine, "model_sha256", "another file's")
    with pytest.raises(StoreError, match="begun with another model file") as caught:
        resume("latest", tmp_path)
    assert "new run" in caught.value.remedy


def test_options_of_a_backend_that_there_is_not_are_an_error(
    small_data: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="no backend 'mok'"):
        run(spec(small_data, backends={"mok": {"batch": 2}}), tmp_path)


def test_engines_that_load_side_by_side_count_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_data: str
) -> None:
    """The mock's loading made out to be long: it is no time of the harness's, and only once."""
    monkeypatch.setattr("harness.engine.engine.find_backend", lambda _: _mock())
    monkeypatch.setattr(Engine, "first_load_seconds", 100.0)
    monkeypatch.setattr(Engine, "busy_seconds", 100.0)
    summary = run(spec(small_data, backend=("one", "two")), tmp_path)
    assert summary.wall_seconds is not None
    assert summary.harness_seconds is not None
    assert summary.harness_seconds == pytest.approx(summary.wall_seconds - 100)
