"""The prompts of an earlier run, asked again: the same texts, of other engines."""

from __future__ import annotations

import json
import os
import textwrap
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest

import harness
from backends.api import ENTRY_POINT_GROUP
from harness.comparison.history import read_history
from harness.engine import registry
from harness.errors import StoreError, TemplateError, UsageError
from harness.pipeline.prompting import Update
from harness.pipeline.run import resume, run
from harness.spec import RunSpec
from harness.store.runs import Results, StoredRun
from harness.store.schema import CellRow, EntryRow
from harness.store.store import Store
from harness.summary import Summary
from harness.workload.packing import text_sha256
from harness.workload.prompt import FOLDER

# The mock as it is, without a first token, and with a dearer vocabulary (a digit is two tokens).
KINDS = """
    from dataclasses import fields, replace
    from types import SimpleNamespace
    from backends import mock
    from backends.api import TokenizerInfo

    LENGTH = {"max_model_len": 300}

    class Tokens:
        def __init__(self, session):
            self._session, info = session, session.info
            names = [field.name for field in fields(TokenizerInfo)]
            self.info = TokenizerInfo(**{name: getattr(info, name) for name in names})
            self.tokenize, self.token_texts = session.tokenize, session.token_texts
            self.close = session.close

    class Session(mock.MockSession):
        def __init__(self, model, options, **info):
            super().__init__(model, options)
            plain = {"chat_template": "{{ messages[-1].content }}"}
            self.info = replace(self.info, **{**plain, **info})

    class Dear(Session):
        def tokenize(self, texts):
            every = super().tokenize(texts)
            return [[t for code in ids for t in [code] * (1 + (48 <= code < 58))] for ids in every]

    def kind(make, **info):
        return SimpleNamespace(
            FORMATS=mock.FORMATS,
            OPTIONS=mock.OPTIONS,
            requirements=mock.requirements,
            check=mock.check,
            open_session=lambda model, options: make(model, options, **info),
            open_tokenizer=lambda model, options: Tokens(make(model, LENGTH, **info)),
        )

    like = kind(Session)
    bare = kind(Session, bos_id=None)
    dear = kind(Dear, vocabulary_sha256="d" * 64)
    broken = kind(Session, chat_template="{% nothing %}")
"""

Spec: TypeAlias = Callable[..., RunSpec]


@pytest.fixture(autouse=True)
def kinds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "kinds.py").write_text(textwrap.dedent(KINDS), encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.syspath_prepend(str(tmp_path))
    targets = {"mock": "backends.mock"} | {
        n: f"kinds:{n}" for n in ("like", "bare", "dear", "broken")
    }
    entries = [EntryPoint(name, target, ENTRY_POINT_GROUP) for name, target in targets.items()]
    monkeypatch.setattr(registry, "entry_points", lambda group: entries)


@pytest.fixture
def spec(small_data: str) -> Spec:
    def small(**changes: Any) -> RunSpec:
        plain = {
            "backend": "mock",
            "data": small_data,
            "voters": 2,
            "queries": 4,
            "calibration_queries": 2,
            "max_model_len": 300,
            "decoding": "score",
            "baselines": False,  # fitting them takes longer than all the rest
        }
        return RunSpec(**(plain | changes))

    return small


def again(results: Path, wanted: str = "latest", **changes: Any) -> Summary:
    return run(RunSpec(prompts_from=wanted, baselines=False, **changes), results)


def cells(results: Path, run_id: str, backend: str) -> list[CellRow]:
    with Store(results) as store:
        return store.cells(run_id, backend)


def kept_spec(results: Path, run_id: str) -> RunSpec:
    with Store(results) as store:
        return RunSpec.model_validate(json.loads(store.run(run_id).spec))


class InterruptionError(Exception):
    """What an observer raises to end a run."""


def interrupt(update: Update) -> None:
    if update.done >= 2:
        raise InterruptionError


def test_another_engine_is_asked_the_same_prompts(tmp_path: Path, spec: Spec) -> None:
    first = run(spec(seed=3), tmp_path)
    other = again(tmp_path, first.run_id[:-1], backend="like", engine={"batch": 2})
    assert other.runs[0].prompts == first.runs[0].prompts
    assert other.runs[0].cells.done == 12
    assert other.runs[0].context_fit.examples_per_voter == (
        first.runs[0].context_fit.examples_per_voter
    )
    expected = {
        "prompt": "compact",
        "prompts_from": first.run_id,
        "backend": ("like",),
        "engine": {"batch": 2},
    }
    assert kept_spec(tmp_path, other.run_id) == spec(seed=3).model_copy(update=expected)


def test_prompts_are_not_packed_again_for_an_engine_with_less_context(
    tmp_path: Path, spec: Spec
) -> None:
    first = run(spec(), tmp_path)
    other = again(tmp_path, backend="like", engine={"context": 280})
    assert other.runs[0].prompts == first.runs[0].prompts
    reasons = {cell.reason for cell in cells(tmp_path, other.run_id, "like") if cell.reason}
    assert reasons == {"overflow: the prompt and its reply do not fit in the context"}


def test_another_vocabulary_gets_its_own_tokens_of_the_same_texts(
    tmp_path: Path, spec: Spec
) -> None:
    first = run(spec(), tmp_path)
    other = again(tmp_path, backend=("mock", "dear"))
    same, own = other.runs
    assert same.prompts == first.runs[0].prompts
    assert own.prompts.text_sha256 == same.prompts.text_sha256
    assert own.prompts.token_sha256 != same.prompts.token_sha256
    others = again(tmp_path, backend="dear").runs[0].tokens
    assert same.tokens
    assert own.tokens
    assert others
    assert (same.tokens.same_as_first, own.tokens.same_as_first) == (True, False)
    assert not others.same_as_first
    assert own.cells.failed == 12
    assert own.context_fit.fill_ratio is not None
    assert own.context_fit.fill_ratio > 1


def test_the_chat_template_is_that_of_the_earlier_run(tmp_path: Path, spec: Spec) -> None:
    first = run(spec(prompt="chat"), tmp_path)
    other = again(tmp_path, backend="like")
    assert other.runs[0].prompts == first.runs[0].prompts
    alone = run(spec(prompt="chat", backend="like"), tmp_path)
    assert alone.runs[0].prompts.text_sha256 != first.runs[0].prompts.text_sha256


def test_a_given_chat_template_is_that_of_all_entries_and_stays_that_of_the_run(
    tmp_path: Path, spec: Spec
) -> None:
    file = tmp_path / "mine.jinja"
    source = "{{ messages[-1].content }}<mine>"
    file.write_text(source)
    given = spec(backend=("mock", "like"), prompt="chat", chat_template=str(file))
    with pytest.raises(InterruptionError):
        run(given, tmp_path, interrupt)
    file.write_text("another")
    whole = resume("latest", tmp_path)
    assert [one.cells.done for one in whole.runs] == [12, 12]
    with Store(tmp_path) as store:
        stored = StoredRun(store, store.run("latest"))
        assert stored.chat_template == source
        assert stored.facts is not None
        assert stored.facts.chat_template is not None
        assert stored.facts.chat_template.sha256 == text_sha256(source)
        assert all("<mine>" in text for text in store.prompt_texts(stored.run_id) or [])
    file.unlink()
    other = again(tmp_path, backend="like")
    assert other.runs[0].prompts == whole.runs[0].prompts
    with Store(tmp_path) as store:
        assert StoredRun(store, store.run("latest")).chat_template == source


def test_one_vocabulary_and_other_tokens_are_refused(tmp_path: Path, spec: Spec) -> None:
    first = run(spec(), tmp_path)
    with pytest.raises(
        StoreError, match=f"bare has the vocabulary of run {first.run_id}.*voter 0, query 0"
    ) as caught:
        again(tmp_path, backend="bare")
    assert "in one run" in caught.value.remedy


def test_a_template_that_has_changed_is_found_by_its_texts(tmp_path: Path, spec: Spec) -> None:
    template = tmp_path / "mine.toml"
    text = (FOLDER / "compact.toml").read_text()
    template.write_text(text)
    run(spec(prompt=str(template)), tmp_path)
    template.write_text(text.replace("Classify", "Sort"))
    with pytest.raises(StoreError, match=r"cannot be made again.*first in voter 0, query 0"):
        again(tmp_path, backend="like")
    with Store(tmp_path) as store:
        assert len(store.runs()) == 1


def test_what_a_default_came_to_is_no_contradiction(tmp_path: Path, spec: Spec) -> None:
    """Fewer queries than were wanted, as many examples as fit, and the room for a label."""
    given: dict[str, Any] = {"bootstrap": False, "queries": 1000, "calibration_queries": 1000}
    first = run(spec(max_model_len=20_000, **given), tmp_path)
    with Results(tmp_path) as stored:
        found = stored.run("latest")
        assert found.facts is not None
        came_to: dict[str, Any] = {
            "max_tokens": found.facts.reserve,
            "max_model_len": found.facts.limit,
            "calibration_queries": found.facts.calibration[0],
            "queries": len(found.queries.rows),
            "shots": found.prompts[0].examples,
        }
    assert came_to["queries"] < 1000 > came_to["calibration_queries"]
    other = again(tmp_path, backend="like", prompt="compact", **came_to)
    assert other.runs[0].prompts == first.runs[0].prompts
    for name, value in came_to.items():
        with pytest.raises(UsageError, match=f"--{name.replace('_', '-')}: beside"):
            again(tmp_path, **{name: value + 1})
    same = run(spec(max_model_len=20_000, max_tokens=came_to["max_tokens"], **given), tmp_path)
    compared = harness.compare(first.run_id, same.run_id, results=tmp_path)
    assert compared.against_first[0].spec == []


def test_data_that_have_changed_are_found_by_the_texts(tmp_path: Path, spec: Spec) -> None:
    X, y = np.random.default_rng(0).normal(size=(80, 12)), np.array(["A", "B"] * 40)
    path = tmp_path / "mine.npz"
    np.savez(path, X_train=X, y_train=y, X_test=X + 1, y_test=y)
    first = run(spec(data=str(path)), tmp_path)
    assert again(tmp_path, backend="like").runs[0].prompts == first.runs[0].prompts
    np.savez(path, X_train=X**2, y_train=y, X_test=X + 1, y_test=y)
    with pytest.raises(StoreError, match="the data or a template has changed"):
        again(tmp_path, backend="like")


def test_an_interrupted_replay_is_completed(tmp_path: Path, spec: Spec) -> None:
    first = run(spec(), tmp_path)
    with pytest.raises(InterruptionError):
        replay = RunSpec(
            prompts_from="latest", backend="like", baselines=False, engine={"batch": 2}
        )
        run(replay, tmp_path, interrupt)
    with Store(tmp_path) as store:
        begun = store.run("latest").run_id
    whole = resume("latest", tmp_path)
    assert whole.run_id == begun != first.run_id
    assert whole.runs[0].cells.done == 12
    assert whole.runs[0].prompts == first.runs[0].prompts


def test_a_replay_of_a_replay_is_one_of_the_first_run(tmp_path: Path, spec: Spec) -> None:
    """Its prompts are in the words of the first run's chat template."""
    first = run(spec(prompt="chat"), tmp_path)
    second = again(tmp_path, backend="like")
    third = again(tmp_path, second.run_id, backend="like")
    assert kept_spec(tmp_path, third.run_id).prompts_from == first.run_id
    assert third.runs[0].prompts == first.runs[0].prompts


def test_a_replay_can_be_replayed_when_the_first_run_is_deleted(tmp_path: Path, spec: Spec) -> None:
    first = run(spec(), tmp_path)
    second = again(tmp_path, backend="like")
    with Store(tmp_path) as store:
        store.delete_runs([first.run_id])
    third = again(tmp_path, second.run_id, backend="like")
    assert kept_spec(tmp_path, third.run_id).prompts_from == second.run_id
    assert third.runs[0].prompts == second.runs[0].prompts
    assert third.runs[0].cells.done == 12


def test_several_models_are_an_entry_each_of_the_same_prompts_wherever_they_are_seen(
    tmp_path: Path, spec: Spec
) -> None:
    first = run(spec(model=("some/where/one.gguf", "two"), baselines=False), tmp_path)
    assert [(one.entry, one.model) for one in first.runs] == [
        ("mock@one", "some/where/one.gguf"),
        ("mock@two", "two"),
    ]
    assert first.runs[0].prompts == first.runs[1].prompts
    assert resume("latest", tmp_path) == first
    other = again(tmp_path, backend="mock")
    assert [one.entry for one in other.runs] == ["mock@one", "mock@two"]
    run(spec(model="two", baselines=False), tmp_path)
    compared = harness.compare(f"{first.run_id}:mock@one", "latest:mock@two", results=tmp_path)
    assert [(one.field, one.first, one.other) for one in compared.against_first[0].spec] == [
        ("model", "some/where/one.gguf", "two")
    ]
    with Results(tmp_path) as results:
        series = read_history(results, "accuracy").series
    points = {one.model: (one.entry, len(one.points)) for one in series}
    assert points == {"some/where/one.gguf": ("mock", 2), "two": ("mock", 3)}


def test_a_replay_has_the_model_of_the_run_that_was_named(tmp_path: Path, spec: Spec) -> None:
    first = run(spec(model="one"), tmp_path)
    plain = again(tmp_path, first.run_id, backend="like")
    second = again(tmp_path, first.run_id, backend="like", model="other")
    third = again(tmp_path, second.run_id, backend="like")
    wanted = {plain.run_id: "one", second.run_id: "other", third.run_id: "other"}
    with Results(tmp_path) as results:
        for run_id, model in wanted.items():
            [entry] = results.entries(run_id)
            assert entry.run.spec.model == (entry.model,) == (model,)
            assert entry.info is not None
            assert entry.info.model == model


def test_a_run_whose_first_entry_failed_can_be_replayed(tmp_path: Path, spec: Spec) -> None:
    small = {"backend": "mock", "context": 100}
    first = run(spec(backend=(), entries={"small": small, "whole": {"backend": "mock"}}), tmp_path)
    assert [one.cells.done for one in first.runs] == [0, 12]
    assert again(tmp_path, backend="like").runs[0].prompts == first.runs[1].prompts


def test_a_broken_chat_template_is_no_matter_where_none_is_used(tmp_path: Path, spec: Spec) -> None:
    """A replay uses the template of the earlier run, and a completion uses none."""
    first = run(spec(prompt="chat"), tmp_path)
    assert again(tmp_path, backend="broken").runs[0].prompts == first.runs[0].prompts
    assert run(spec(backend="broken"), tmp_path).runs[0].cells.done == 12
    with pytest.raises(TemplateError, match=r"of the model \S+ is broken") as caught:
        run(spec(prompt="chat", backend="broken"), tmp_path)
    assert caught.value.remedy


def test_a_run_that_was_ended_can_be_asked_again(tmp_path: Path, spec: Spec) -> None:
    with pytest.raises(InterruptionError):
        run(spec(engine={"batch": 2}), tmp_path, interrupt)
    assert again(tmp_path, backend="like").runs[0].cells.done == 12


def test_a_run_that_asked_nothing_cannot(tmp_path: Path, spec: Spec) -> None:
    with Store(tmp_path) as store:
        run_id = store.create_run(
            spec().model_dump_json(), "{}", [EntryRow("mock", "mock", "m", None)], None
        )
    with pytest.raises(StoreError, match=f"{run_id} was given no prompt: it was ended") as caught:
        again(tmp_path, backend="like")
    assert "--resume" in caught.value.remedy


def test_what_would_change_the_prompts_is_refused(tmp_path: Path, spec: Spec) -> None:
    first = run(spec(), tmp_path)
    with pytest.raises(UsageError, match=f"^--voters, --max-model-len: .* run {first.run_id}"):
        again(tmp_path, backend="like", voters=5, max_model_len=200, queries=4)
