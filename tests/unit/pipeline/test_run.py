"""The pipeline on the mock: whole, with losses, over several engines, and completed later."""

from __future__ import annotations

import re
import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from functools import cached_property
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, cast

import numpy as np
import psutil
import pytest

from backends.api import ENTRY_POINT_GROUP, Capabilities, TokenizerInfo
from harness.baselines.run import run_baselines
from harness.engine import registry
from harness.engine.engine import Engine, EnginePlan, plan_engine
from harness.engine.session import EngineSession, TokenizerSession, WorkerEvent
from harness.engine.transport import WorkerFailedError
from harness.errors import EngineError, HarnessError, StoreError, UsageError
from harness.machine.environment import describe_environment
from harness.pipeline.plan import plan_run
from harness.pipeline.prompting import Update
from harness.pipeline.run import as_json, check_answered, resume, run, run_group
from harness.spec import RunSpec
from harness.store.runs import Results
from harness.store.store import FILE_NAME, Store
from harness.summary import CaveatKind, Missing, RunSummary, Summary
from harness.workload.prompt import FOLDER


def spec(data: str, **changes: Any) -> RunSpec:
    plain = {
        "backend": "mock",
        "data": data,
        "voters": 1,
        "queries": 10,
        "calibration_queries": 2,
        "max_model_len": 300,
        "timeout_seconds": 20.0,
        "baselines": False,  # fitting them takes longer than all the rest
    }
    return RunSpec(**(plain | changes))


class InterruptionError(Exception):
    """What an observer raises to end a run."""


def interrupt(update: Update) -> None:
    if update.done >= 8:
        raise InterruptionError


def kinds(summary: Summary) -> set[CaveatKind]:
    return {caveat.kind for caveat in summary.runs[0].caveats}


def failures(result: RunSummary) -> list[str]:
    """The reasons that the caveat of failed cells has."""
    [caveat] = [one for one in result.caveats if one.kind is CaveatKind.CELLS_FAILED]
    return cast("list[str]", caveat.figures["reasons"])


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, small_data: str) -> Summary:
    return run(spec(small_data, baselines=True), tmp_path_factory.mktemp("whole"))


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
    assert result.speed.other_cpu_share is not None
    assert 0 <= result.speed.other_cpu_share <= 1
    assert CaveatKind.MOCK in kinds(whole)
    assert not psutil.Process().children()


def entries(**options: dict[str, Any]) -> dict[str, Any]:
    """The mock under several names."""
    return {name: {"backend": "mock", **own} for name, own in options.items()}


def named(data: str, **options: dict[str, Any]) -> RunSpec:
    return spec(data, backend=(), entries=entries(**options))


def test_an_entry_cannot_be_called_like_a_baseline_of_the_run(
    tmp_path: Path, small_data: str
) -> None:
    with pytest.raises(UsageError, match="cannot be called logistic") as caught:
        run(named(small_data, logistic={}).model_copy(update={"baselines": True}), tmp_path)
    assert "logistic-1" in caught.value.remedy
    with pytest.raises(UsageError, match="cannot be called logistic"):
        plan_run(named(small_data, logistic={}).model_copy(update={"baselines": True}), tmp_path)
    assert list(Results(tmp_path)) == []
    run(named(small_data, logistic={}), tmp_path)  # without baselines it is what it says


def test_several_entries_of_one_backend_are_given_the_same_prompts(
    tmp_path: Path, small_data: str
) -> None:
    one, two = run(named(small_data, one={}, two={"batch": 3}), tmp_path).runs
    assert (one.entry, two.entry) == ("one", "two")
    assert one.backend == two.backend == "mock"
    assert one.prompts == two.prompts
    assert two.tokens
    assert two.tokens.model_dump() == {
        "same_as_first": True,
        "tokenized_by": "one",
        "own_difference": None,
    }
    assert one.cells.done == two.cells.done == 12
    with Results(tmp_path) as results:
        batches = {name: len(one.batches) for name, one in results.run("latest").entries.items()}
    assert batches["two"] > batches["one"]
    assert {path.name for path in (tmp_path / "logs").iterdir()} == {"one.log", "two.log"}


def lie(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Has the tokenizers of these entries send what makes no sense."""
    honest = TokenizerSession.tokenize

    def tokenize(self: TokenizerSession, texts: Sequence[str]) -> list[list[int]]:
        if self._transport.name in names:
            raise EngineError("ids: 300 is none of the 258 tokens", remedy="See its log.")
        return honest(self, texts)

    monkeypatch.setattr(TokenizerSession, "tokenize", tokenize)


def test_a_tokenizer_that_fails_costs_its_entry_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_data: str
) -> None:
    """It was to be packed first, so its tokens were those of the others too."""
    given = named(small_data, liar={}, one={}, two={"context": 299})
    with monkeypatch.context() as patched:
        lie(patched, "liar")
        liar, one, two = run(given, tmp_path).runs
    assert (liar.cells.done, liar.cells.failed) == (0, 12)
    assert failures(liar) == ["ids: 300 is none of the 258 tokens"]
    assert one.cells.done == two.cells.done == 12
    assert two.tokens
    assert (two.tokens.tokenized_by, two.tokens.same_as_first) == ("one", True)
    assert not psutil.Process().children()
    assert resume("latest", tmp_path).runs[0].cells.done == 12


def test_where_every_tokenizer_fails_there_is_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_data: str
) -> None:
    lie(monkeypatch, "one", "two")
    said = "one: ids: 300 is none of the 258 tokens; two: ids: 300 is none of the 258 tokens"
    with pytest.raises(EngineError, match=f"^{said}$") as caught:
        run(named(small_data, one={}, two={}), tmp_path)
    assert caught.value.remedy == "See its log."
    with Store(tmp_path) as store:
        assert store.runs() == []


def test_a_run_is_resumed_without_a_tokenizer_that_fails_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_data: str
) -> None:
    """Its context was the smallest when the prompts were packed."""
    with monkeypatch.context() as patched, pytest.raises(InterruptionError):
        shorten(patched, "one", 250)
        run(named(small_data, one={}, two={}), tmp_path, interrupt)
    lie(monkeypatch, "one")
    one, two = resume("latest", tmp_path).runs
    assert (one.cells.done, one.cells.failed) == (8, 4)
    assert two.cells.done == 12


def test_a_tokenizer_of_another_vocabulary_than_at_first_costs_its_entry_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_data: str
) -> None:
    with monkeypatch.context() as patched:
        lie(patched, "liar")
        run(named(small_data, liar={}, one={}), tmp_path)
    shorten(monkeypatch, "liar", 250, vocabulary_sha256="a" * 64)
    liar, one = resume("latest", tmp_path).runs
    assert (liar.cells.failed, one.cells.done) == (12, 12)


def test_an_entry_that_allocates_less_than_was_packed_fails_alone(
    tmp_path: Path, small_data: str
) -> None:
    summary = run(named(small_data, small={"context": 200}, whole={}), tmp_path)
    small, whole = summary.runs
    assert (small.cells.done, small.cells.failed) == (0, 12)
    assert (whole.cells.done, whole.cells.failed) == (12, 0)
    [message] = failures(small)
    assert re.search(
        r"allocated 200 tokens of context, and its prompts were packed for 2\d\d", message
    )
    with pytest.raises(EngineError, match=r"^small cannot be prompted"):
        check_answered(summary)


@pytest.mark.parametrize(
    ("unlike", "message"),
    [
        ({"capabilities": Capabilities(label_logprobs="none")}, "the engine reports none"),
        (
            {"vocabulary_sha256": "another"},
            r"vocabulary another is not the \w{12} of",
        ),
        ({"vocabulary_size": 100}, r"its prompts have the token 256, and the engine has 100"),
    ],
)
def test_an_engine_that_is_not_what_was_packed_for_fails_with_why(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    small_data: str,
    unlike: dict[str, Any],
    message: str,
) -> None:
    info_of: Any = vars(EngineSession)["info"]
    changed: Any = cached_property(lambda self: replace(info_of.func(self), **unlike))
    changed.__set_name__(EngineSession, "info")
    monkeypatch.setattr(EngineSession, "info", changed)
    [result] = run(spec(small_data, decoding="score"), tmp_path).runs
    assert result.cells.failed == 12
    [reason] = failures(result)
    assert re.search(message, reason)


def test_an_engine_that_cannot_be_loaded_is_one_error_with_its_own_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_data: str
) -> None:
    def load(_: Engine) -> None:
        raise EngineError("there is no device 'tpu' here", remedy="Use --device cpu.")

    monkeypatch.setattr(Engine, "load", load)
    summary = run(spec(small_data), tmp_path)
    with pytest.raises(EngineError) as caught:
        check_answered(summary)
    assert str(caught.value) == "mock cannot be prompted: there is no device 'tpu' here"
    assert caught.value.remedy == "Use --device cpu."


def test_what_an_engine_reports_while_it_answers_has_its_remedy_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_data: str
) -> None:
    def generate(*_: object) -> Iterator[WorkerEvent]:
        raise WorkerFailedError("no room", "reported", remedy="Use a shorter context.")
        yield

    monkeypatch.setattr(EngineSession, "generate", generate)
    summary = run(spec(small_data), tmp_path)
    with pytest.raises(EngineError, match=r"^mock gave no reply: no room$") as caught:
        check_answered(summary)
    assert caught.value.remedy == "Use a shorter context."


def test_never_are_two_engines_loaded_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_data: str
) -> None:
    """Nor is anything of ours computed while one is: baselines come last."""
    alive: list[str] = []
    seen: list[tuple[str, tuple[str, ...]]] = []
    open_engine, close_engine = Engine.__enter__, Engine.__exit__

    def enter(self: Engine) -> Engine:
        alive.append(self.name)
        seen.append(("loads", tuple(alive)))
        return open_engine(self)

    def leave(self: Engine, *how: Any) -> None:
        close_engine(self, *how)
        alive.remove(self.name)

    def fit(*given: Any) -> Any:
        seen.append(("baselines", tuple(alive)))
        return run_baselines(*given)

    monkeypatch.setattr(Engine, "__enter__", enter)
    monkeypatch.setattr(Engine, "__exit__", leave)
    monkeypatch.setattr("harness.pipeline.run.run_baselines", fit)
    both = named(small_data, one={}, two={}).model_copy(update={"baselines": True})
    run(both, tmp_path)
    assert seen == [("loads", ("one",)), ("loads", ("two",)), ("baselines", ())]


def test_a_group_opens_its_engine_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_data: str
) -> None:
    opened: list[int] = []
    original = Engine.__init__

    def counted(self: Engine, plan: Any, max_model_len: int) -> None:
        opened.append(max_model_len)
        original(self, plan, max_model_len)

    monkeypatch.setattr(Engine, "__init__", counted)
    specs = [spec(small_data, max_model_len=size) for size in (200, 300, 250)]
    summaries = run_group("lengths", specs, tmp_path)
    assert opened == [300]
    assert [one.group for one in summaries] == ["lengths"] * 3
    assert [one.runs[0].cells.done for one in summaries] == [12, 12, 12]
    # cold before each run: nothing of an earlier one is computed less
    assert all(r.speed.computed_tokens == r.speed.unique_tokens for s in summaries for r in s.runs)
    loads = [one.runs[0].speed.load_seconds for one in summaries]
    assert loads[0] is not None
    assert loads[1:] == [None, None]
    assert summaries[1].runs[0].missing["load_seconds"] is Missing.ALREADY_OPEN
    alone = run(spec(small_data, max_model_len=200), tmp_path)
    assert alone.runs[0].prompts == summaries[0].runs[0].prompts
    assert alone.runs[0].accuracy == summaries[0].runs[0].accuracy
    with Results(tmp_path) as results:
        assert results.run("latest").run_id == alone.run_id
        members = results.group("lengths")
        assert [one.run_id for one in members] == [one.run_id for one in summaries]


def test_loading_again_is_reported_of_the_run_that_waits_for_it(
    tmp_path: Path, small_data: str
) -> None:
    """The worker dies at the third prompt of the second run."""
    updates: list[Update] = []
    specs = [spec(small_data, seed=seed, engine={"crash_at": 15, "batch": 2}) for seed in (0, 1)]
    first, second = run_group("seeds", specs, tmp_path, updates.append)
    assert (first.runs[0].cells.failed, second.runs[0].cells.failed) == (0, 2)
    loading = [one.run_id for one in updates if one.stage == "loading"]
    assert loading == [first.run_id, second.run_id]


def test_a_member_of_a_group_that_does_not_fit_fails_alone(tmp_path: Path, small_data: str) -> None:
    specs = [spec(small_data, max_model_len=size, engine={"context": 250}) for size in (300, 200)]
    long, short = run_group("lengths", specs, tmp_path)
    assert (long.runs[0].cells.done, long.runs[0].cells.failed) == (0, 12)
    assert (short.runs[0].cells.done, short.runs[0].cells.failed) == (12, 0)


def test_a_group_of_which_one_cannot_be_packed_leaves_no_run(
    tmp_path: Path, small_data: str
) -> None:
    with pytest.raises(UsageError):
        run_group("shots", [spec(small_data), spec(small_data, shots=500)], tmp_path)
    with Store(tmp_path) as store:
        assert store.runs() == []


@pytest.mark.parametrize("name", ["latest", "", "a b", "../x", "a:b"])
def test_a_group_has_a_name_that_nothing_else_has(
    tmp_path: Path, small_data: str, name: str
) -> None:
    with pytest.raises(UsageError, match="cannot be called"):
        run_group(name, [spec(small_data)], tmp_path)


def test_a_run_has_the_name_that_it_is_given(tmp_path: Path, small_data: str) -> None:
    summary = run(spec(small_data, queries=2, baselines=False), tmp_path, name="mine")
    assert summary.name == "mine"
    with Results(tmp_path) as results:
        assert results.run("mine").run_id == summary.run_id


def test_a_name_is_refused_before_anything_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(EnginePlan, "open_tokenizer", None)
    with Store(tmp_path) as store:
        store.create_run("{}", "{}", [], None, "curve", "mine")
    for name, why in (("2026", "cannot be called"), ("mine", "used already"), ("curve", "used")):
        with pytest.raises(UsageError, match=why):
            run(spec("nowhere"), tmp_path, name=name)
    with pytest.raises(UsageError, match="used already"):
        run_group("mine", [spec("nowhere")], tmp_path)


def test_no_runs_are_a_group_too(tmp_path: Path) -> None:
    assert run_group("empty", [], tmp_path) == []


def test_a_complete_run_is_resumed_without_loading_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_data: str
) -> None:
    first = run(spec(small_data), tmp_path)

    def load(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(Engine, "__init__", load)
    assert resume(first.run_id, tmp_path) == first  # with the times that it took then


def test_a_failed_restart_leaves_the_reasons_that_cells_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_data: str
) -> None:
    """Four prompts are open when the worker is killed, and then it does not start again."""

    def restart(_: Engine) -> None:
        raise EngineError("it does not start again")

    monkeypatch.setattr(Engine, "restart", restart)
    run(spec(small_data, engine={"crash_at": 5, "batch": 4}), tmp_path)
    with Results(tmp_path) as results:
        cells = results.run("latest").entries["mock"].cells
    reasons = [cell.reason for cell in cells if cell.reason]
    assert reasons.count("it does not start again") == 4
    assert sum("killed (signal 9)" in reason for reason in reasons) == 4


def test_data_that_changed_before_prompts_were_stored_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_data: str
) -> None:
    def save_nothing(*_: object) -> None:
        raise InterruptionError

    rng = np.random.default_rng(1)
    data, y = tmp_path / "mine.npz", np.array(["A", "B"] * 40)
    np.savez(data, X_train=rng.normal(size=(80, 9)), y_train=y, X_test=rng.normal(size=(80, 9)),
             y_test=y)  # fmt: skip
    with monkeypatch.context() as patched, pytest.raises(InterruptionError):
        patched.setattr(Store, "save_prompts", save_nothing)
        run(spec(str(data)), tmp_path)
    data.write_bytes(Path(small_data).read_bytes())
    with pytest.raises(StoreError, match="other prompts"):
        resume("latest", tmp_path)


def shorten(
    monkeypatch: pytest.MonkeyPatch, name: str, declared_context: int, **changes: Any
) -> None:
    """Has the tokenizer of an entry say so, and what else is changed of it."""
    info_of: Any = vars(TokenizerSession)["info"]
    said = {"declared_context": declared_context, **changes}

    def info(self: TokenizerSession) -> TokenizerInfo:
        true: TokenizerInfo = info_of.func(self)
        return replace(true, **said) if self._transport.name == name else true

    short: Any = cached_property(info)
    short.__set_name__(TokenizerSession, "info")
    monkeypatch.setattr(TokenizerSession, "info", short)


def test_a_shorter_context_of_the_model_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_data: str
) -> None:
    shorten(monkeypatch, "mock", 250)
    [result] = run(spec(small_data, max_model_len=300), tmp_path).runs
    [caveat] = [one for one in result.caveats if one.kind is CaveatKind.CONTEXT_LIMITED]
    assert caveat.figures == {"limit": 250, "wanted": 300}
    assert result.cells.done == 12


def test_the_runs_of_a_group_have_the_same_entries(tmp_path: Path, small_data: str) -> None:
    specs = [spec(small_data), spec(small_data, engine={"batch": 2})]
    with pytest.raises(UsageError, match="same entries"):
        run_group("mixed", specs, tmp_path)


def test_a_run_without_baselines_has_none(tmp_path: Path, small_data: str) -> None:
    summary = run(spec(small_data), tmp_path)
    assert summary.baselines == []
    assert summary.runs[0].against_baselines == []


def test_a_run_goes_on_when_its_worker_was_killed(tmp_path: Path, small_data: str) -> None:
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
        run(spec(small_data, baselines=True), tmp_path, interrupt)
    assert not psutil.Process().children()
    with Store(tmp_path) as store:
        assert store.run("latest").summary is None
        assert len(store.cells(store.run("latest").run_id, "mock")) == 8
    updates: list[Update] = []
    [result] = resume("latest", tmp_path, updates.append).runs
    assert (updates[0].stage, updates[0].done) == ("loading", 8)
    *_, last, baselines = updates
    assert (last.stage, last.done) == ("", 12)
    assert 0 < last.prompt_tokens <= last.expected_tokens
    assert (baselines.entry, baselines.stage) == ("baselines", "fitting")
    [expected] = whole.runs
    same = ("accuracy", "parse", "cells", "context_fit", "against_baselines", "prompts")
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


def test_a_run_whose_prompts_have_changed_is_not_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_data: str
) -> None:
    template = tmp_path / "mine.toml"
    text = (FOLDER / "compact.toml").read_text()
    template.write_text(text)
    with pytest.raises(InterruptionError):
        run(spec(small_data, prompt=str(template)), tmp_path, interrupt)
    template.write_text(text.replace("Classify", "Sort"))
    with pytest.raises(StoreError, match="begun with other prompts") as caught:
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
        ({"backend": "llama-cpp", "model": "none.gguf"}, UsageError),
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


def test_a_run_is_not_completed_by_another_engine(
    small_data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InterruptionError):
        run(spec(small_data), tmp_path, interrupt)
    monkeypatch.setattr(EnginePlan, "model_sha256", "another file's")
    with pytest.raises(StoreError, match="begun with another model file") as caught:
        resume("latest", tmp_path)
    assert "new run" in caught.value.remedy


def test_options_of_a_backend_that_there_is_not_are_an_error(
    small_data: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="no backend 'mok'"):
        run(spec(small_data, backends={"mok": {"batch": 2}}), tmp_path)


def test_loading_is_no_time_of_the_harness(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_data: str
) -> None:
    """The mock's work made out to be long."""
    monkeypatch.setattr(Engine, "busy_seconds", 100.0)
    summary = run(named(small_data, one={}, two={}), tmp_path)
    assert summary.wall_seconds is not None
    assert summary.harness_seconds is not None
    assert summary.harness_seconds == pytest.approx(summary.wall_seconds - 200)


def test_a_resume_elsewhere_stores_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_data: str
) -> None:
    with pytest.raises(InterruptionError):
        run(spec(small_data), tmp_path, interrupt)
    there = describe_environment().model_copy(update={"cpu": "Another CPU"})
    monkeypatch.setattr("harness.pipeline.run.describe_environment", lambda: there)
    resume("latest", tmp_path)
    with Results(tmp_path) as results:
        sessions = results.run("latest").entries["mock"].sessions
    assert [one.environment for one in sessions] == [None, there.model_dump_json()]


def interrupted(data: str, folder: Path, **changes: Any) -> str:
    """A run that was ended in the middle; returns its id."""
    with pytest.raises(InterruptionError):
        run(spec(data, engine={"batch": 4}, **changes), folder, interrupt)
    with Results(folder) as results:
        return results.run("latest").run_id


def test_a_run_is_resumed_by_one_process_at_a_time(tmp_path: Path, small_data: str) -> None:
    run_id = interrupted(small_data, tmp_path)
    refused: list[str] = []

    def second(update: Update) -> None:
        if not refused:
            with pytest.raises(StoreError, match="is in use by process") as caught:
                resume(run_id, tmp_path)
            refused.append(str(caught.value))
            other = run(spec(small_data), tmp_path)  # a new run waits for nobody
            assert other.runs[0].cells.done == 12

    summary = resume(run_id, tmp_path, second)
    assert refused
    assert summary.runs[0].cells.done == 12
    with Results(tmp_path) as results:
        [entry] = results.run(run_id).entries.values()
        assert len(entry.sessions) == 2
        assert len(entry.batches) == 3
    assert not list(tmp_path.glob("*.lock"))


def test_a_run_that_goes_on_cannot_be_resumed(tmp_path: Path, small_data: str) -> None:
    refused: list[str] = []

    def second(update: Update) -> None:
        if not refused:
            with pytest.raises(StoreError, match="is in use by process") as caught:
                resume(update.run_id, tmp_path)
            refused.append(str(caught.value))

    run(spec(small_data), tmp_path, second)
    assert refused


@pytest.mark.parametrize("how", ["moved", "deleted"])
def test_a_store_that_is_gone_costs_no_answer(
    tmp_path: Path, small_data: str, whole: Summary, how: str
) -> None:
    folder = tmp_path / "results"

    def lose(update: Update) -> None:
        if update.done and folder.exists():
            folder.rename(tmp_path / "moved")
            if how == "deleted":
                shutil.rmtree(tmp_path / "moved")

    summary = run(spec(small_data), folder, lose)
    assert summary.runs[0].accuracy == whole.runs[0].accuracy
    if how == "moved":
        with Results(tmp_path / "moved") as results:
            assert results.run(summary.run_id).summary == summary


def test_a_full_disk_names_the_command_that_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_data: str
) -> None:
    """SQLite takes a limit of pages as it takes the end of the disk."""
    limited: list[Store] = []

    def limit(update: Update) -> None:
        store = limited[0]
        with store._read() as connection:
            used = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
            connection.exec_driver_sql(f"PRAGMA max_page_count = {used}")

    def remembered(self: Store, *given: Any, **more: Any) -> None:
        original(self, *given, **more)
        limited.append(self)

    original = Store.__init__
    monkeypatch.setattr(Store, "__init__", remembered)
    with pytest.raises(StoreError, match="full") as caught:
        run(spec(small_data, queries=100, attempts=4), tmp_path, limit)
    monkeypatch.undo()
    with Results(tmp_path) as results:
        command = results.run("latest").resume_command
    assert f"`{command}`" in caught.value.remedy
    assert resume("latest", tmp_path).runs[0].cells.failed == 0


def test_a_run_is_in_the_file_and_not_in_the_log_alone(tmp_path: Path, small_data: str) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()

    def take(update: Update) -> None:
        if update.stage == "loading":
            shutil.copy(tmp_path / FILE_NAME, copy)

    summary = run(spec(small_data), tmp_path, take)
    with Results(copy) as results:
        stored = results.run(summary.run_id)
        assert len(stored.prompts) == 12
        assert stored.texts


def test_a_damaged_run_is_not_resumed(tmp_path: Path, small_data: str) -> None:
    run_id = interrupted(small_data, tmp_path)
    with closing(sqlite3.connect(tmp_path / FILE_NAME, isolation_level=None)) as raw:
        raw.execute("UPDATE cells SET token_ids = '[1' WHERE status = 'done'")
    with pytest.raises(StoreError, match=rf"run {run_id} cannot be read: cells\.token_ids"):
        resume(run_id, tmp_path)


@pytest.mark.parametrize("value", [float("inf"), float("nan"), "half \ud800"])
def test_what_could_not_be_read_again_is_not_stored(
    tmp_path: Path, small_data: str, value: float | str
) -> None:
    odd = spec(small_data).model_copy(update={"engine": {"delay_ms": 0.0, "batch": value}})
    with pytest.raises(UsageError, match="the run cannot be stored"):
        as_json(odd)


def test_home_folders_are_not_in_what_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_data: str
) -> None:
    home = Path(small_data).parent
    monkeypatch.setenv("HOME", str(home))
    run_id = interrupted(small_data, tmp_path, model=f"{home}/models/a.gguf")
    summary = resume(run_id, tmp_path)  # which needs the data's own path
    with Results(tmp_path) as results:
        stored = results.run(run_id)
        assert stored.spec.data == f"~/{Path(small_data).name}"
        assert stored.given_spec.data == small_data
        assert stored.summary == summary
        assert str(home) not in summary.model_dump_json() + stored.spec.model_dump_json()
        assert summary.runs[0].model == stored.entry("mock").model == "~/models/a.gguf"


def break_plan(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Entries of these names cannot be planned, as if an interpreter of theirs were missing."""

    def planned(entry: Any, *given: Any) -> EnginePlan:
        if entry.name in names:
            raise EngineError(f"no engine for {entry.name}", remedy="Install it.")
        return plan_engine(entry, *given)

    monkeypatch.setattr("harness.pipeline.run.plan_engine", planned)


def test_an_entry_that_cannot_be_planned_costs_its_row_and_is_completed_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_data: str
) -> None:
    """The first entry, whose tokens would have been the others'."""
    with monkeypatch.context() as patched:
        break_plan(patched, "one")
        summary = run(named(small_data, one={}, two={}), tmp_path)
    one, two = summary.runs
    assert (one.cells.done, one.cells.failed, two.cells.done) == (0, 12, 12)
    assert (one.tokens, one.context_fit.fill_ratio) == (None, None)
    assert failures(one) == ["no engine for one"]
    with pytest.raises(EngineError, match=r"^one cannot be prompted: no engine") as caught:
        check_answered(summary, "harness run --resume it")
    assert caught.value.remedy == "Install it. Then go on with: harness run --resume it"
    again = resume(summary.run_id, tmp_path)
    assert [one.cells.done for one in again.runs] == [12, 12]
    assert again.runs[0].prompts == again.runs[1].prompts == two.prompts
    assert again.runs[1].tokens == two.tokens
    assert again.runs[0].tokens is not None
    assert again.runs[0].tokens.tokenized_by == "two"


def test_a_backend_that_cannot_be_imported_costs_its_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_data: str
) -> None:
    """Neither its options nor those that all entries share are refused for it."""
    targets = {"gone": "nowhere_at_all", "mock": "backends.mock"}
    entries = [EntryPoint(name, target, ENTRY_POINT_GROUP) for name, target in targets.items()]
    monkeypatch.setattr(registry, "entry_points", lambda group: entries)
    spec = named(small_data, one={"backend": "gone", "own": 1}, two={"backend": "mock"})
    spec = spec.model_copy(update={"backends": {"gone": {"own": 2}}, "engine": {"shared": 3}})
    one, two = run(spec, tmp_path).runs
    assert (one.cells.done, one.cells.failed, two.cells.done) == (0, 12, 12)
    assert failures(one)[0].startswith("backend gone cannot be imported")


def test_what_an_entry_fails_of_is_said_anew_by_a_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_data: str
) -> None:
    with monkeypatch.context() as patched:
        break_plan(patched, "one")
        run_id = run(named(small_data, one={}, two={}), tmp_path).run_id

    def open_nothing(self: EnginePlan) -> TokenizerSession:
        raise EngineError(f"no tokenizer for {self.entry.name}")

    monkeypatch.setattr(EnginePlan, "open_tokenizer", open_nothing)
    with pytest.raises(EngineError, match="no tokenizer for two"):
        resume(run_id, tmp_path)
    monkeypatch.undo()
    break_plan(monkeypatch, "two")  # it is done, so nothing is needed of it
    assert [one.cells.done for one in resume(run_id, tmp_path).runs] == [12, 12]


@pytest.mark.parametrize("failing", ["info", "tokenize"])
def test_an_entry_whose_tokenizer_fails_costs_its_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_data: str, failing: str
) -> None:
    right: Any = vars(TokenizerSession).get(failing) or getattr(TokenizerSession, failing)
    call = right.func if isinstance(right, cached_property) else right

    def wrong(self: Any, *given: Any) -> Any:
        if self._transport.log.stem == "one":
            raise EngineError("the tokenizer is damaged")
        return call(self, *given)

    broken: Any = cached_property(wrong) if failing == "info" else wrong
    if failing == "info":
        broken.__set_name__(TokenizerSession, failing)
    monkeypatch.setattr(TokenizerSession, failing, broken)
    one, two = run(named(small_data, one={}, two={}), tmp_path).runs
    assert failures(one) == ["the tokenizer is damaged"]
    assert (one.cells.done, two.cells.done) == (0, 12)
    assert not psutil.Process().children()


def test_where_no_entry_can_be_planned_nothing_is_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_data: str
) -> None:
    break_plan(monkeypatch, "one", "two")
    with pytest.raises(EngineError, match=r"^no engine for one$"):
        run(named(small_data, one={}, two={}), tmp_path)
    with Store(tmp_path) as store:
        assert store.runs() == []
