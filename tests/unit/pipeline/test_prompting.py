"""Prompting one engine: what is stored, what a failed worker costs, and that it comes to an end."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import EntryPoint
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from backends import mock
from backends.api import ENTRY_POINT_GROUP, NO_FILES, ModelRef
from harness.engine import registry
from harness.engine.engine import Engine, plan_engine
from harness.errors import EngineError
from harness.pipeline.prompting import Update, fail_open_cells, prompt_entry
from harness.pipeline.prompts import prompt_rows
from harness.spec import RunSpec, entries_of
from harness.store.schema import CellRow, EntryRow
from harness.store.store import Store
from harness.workload.packing import Packed, Prompt
from harness.workload.workload import Workload

COUNT = 40
VOCABULARY = mock.open_tokenizer(ModelRef("toy", NO_FILES, ""), {}).info.vocabulary_sha256

# A mock that dies or falls silent where its name says.
FICKLE = """
    import math, os
    from dataclasses import replace
    from backends import mock
    from backends.api import BackendError, Batch, Reply, Started

    FORMATS, OPTIONS, requirements = mock.FORMATS, mock.OPTIONS, mock.requirements
    open_tokenizer = mock.open_tokenizer

    def open_session(model, options):
        return Session(model, options)

    class Session(mock.MockSession):
        def __init__(self, model, options):
            super().__init__(model, options)
            self.info = replace(self.info, is_mock="mock" in model.name)

        def generate(self, prompts, decoding):
            name = self.info.model
            if name == "dies at once":
                os._exit(3)
            if name == "dies once at once" and not os.path.exists("died"):
                open("died", "x").close()
                os.kill(os.getpid(), 9)
            if name == "refuses":
                raise BackendError("I do not like it")
            batches = 0
            for event in super().generate(prompts, decoding):
                if name == "dies between batches" and batches == 2:
                    os._exit(3)
                if name == "leaves out the last" and isinstance(event, Started):
                    if len(prompts) - 1 in event.prompts:
                        return
                if name == "is not finite" and isinstance(event, Batch):
                    first, second, *rest = event.replies
                    event = replace(event, replies=(
                        replace(first, label_logprobs=(math.nan, 0.0)),
                        Reply(second.prompt, "failed", second.prompt_tokens, text="it is broken"),
                        *rest,
                    ))
                if name == "lies in its second batch" and isinstance(event, Batch) and batches:
                    first, *rest = event.replies
                    event = replace(event, replies=(
                        replace(first, prompt_tokens=first.prompt_tokens + 1), *rest,
                    ))
                if name.startswith("always") and isinstance(event, Batch):
                    logprobs = {"alike": (-1.0, -2.0), "level": (-3.0, -3.0)}[name.split()[1]]
                    event = replace(event, replies=tuple(
                        replace(one, label_logprobs=logprobs) for one in event.replies
                    ))
                yield event
                batches += isinstance(event, Batch)
"""


@pytest.fixture
def fickle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "fickle.py").write_text(textwrap.dedent(FICKLE), encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    entry = EntryPoint("mock", "fickle", ENTRY_POINT_GROUP)
    monkeypatch.setattr(registry, "entry_points", lambda group: [entry])


def packed(count: int = COUNT) -> Packed:
    prompts = tuple(Prompt(0, "query", i, i, 0, f"prompt {i}") for i in range(count))
    return Packed(
        prompts=prompts,
        shown=((),),
        token_ids={VOCABULARY: [[7] * 10 + [i] for i in range(count)]},
        labels={VOCABULARY: ((1,), (2,))},
        stop=(),
        limit=100,
        reserve=8,
        tokens_per_example=None,
    )


def spec(model: str = "toy", **engine: Any) -> RunSpec:
    return RunSpec(
        backend="mock", model=model, max_model_len=100, engine=engine, timeout_seconds=20.0
    )


def workload_of(what: Packed) -> Workload:
    """As far as prompting looks at it."""
    parts: Any = SimpleNamespace(packed=what, vocabularies={"mock": VOCABULARY})
    workload: Workload = parts
    return workload


def begin(store: Store, what: Packed) -> str:
    run_id = store.create_run("{}", "{}", [EntryRow("mock", "mock", "toy", VOCABULARY)], None)
    texts = [prompt.text for prompt in what.prompts]
    store.save_prompts(run_id, prompt_rows(what), texts, what.token_ids, {"mock": VOCABULARY}, "{}")
    return run_id


def opened(folder: Path, run: RunSpec) -> Engine:
    [entry] = entries_of(run)
    return Engine(plan_engine(entry, run, folder), run.max_model_len)


@contextmanager
def asked(
    folder: Path, run: RunSpec, what: Packed
) -> Iterator[tuple[Store, list[CellRow], list[Update]]]:
    """The store, its cells and what was observed, after every prompt was given."""
    updates: list[Update] = []
    with Store(folder) as store, opened(folder, run) as engine:
        run_id = begin(store, what)
        prompt_entry(engine, run, workload_of(what), store, run_id, updates.append)
        yield store, store.cells(run_id, "mock"), updates


def count(cells: list[CellRow], status: str) -> int:
    return sum(cell.status == status for cell in cells)


def sessions(store: Store) -> int:
    return len(store.sessions(store.run("latest").run_id, "mock"))


def test_every_reply_is_stored_with_its_own_prompt(tmp_path: Path) -> None:
    what = packed()
    with asked(tmp_path, spec(), what) as (store, cells, _):
        rows = store.prompts(store.run("latest").run_id)
        places = {row.id: row.position for row in rows}
        tokens = store.prompt_tokens(store.run("latest").run_id, VOCABULARY)
        assert [row.n_tokens for row in tokens] == [11] * COUNT
        assert len({row.token_sha256 for row in tokens}) == COUNT
        assert sorted(places[cell.prompt_id] for cell in cells) == list(range(COUNT))
        assert all(cell.reply and cell.reply.prompt == cell.prompt_id for cell in cells)
        first = next(cell for cell in cells if places[cell.prompt_id] == 0)
        assert first.reply is not None
        assert first.reply.cached_tokens == 0  # the walk through the prefix tree begins with it
        assert sessions(store) == 1


def test_what_is_observed_grows_to_the_whole(tmp_path: Path) -> None:
    with asked(tmp_path, spec(), packed()) as (_, cells, updates):
        assert (updates[0].done, updates[0].total) == (0, COUNT)
        assert [update.done for update in updates] == sorted(update.done for update in updates)
        assert updates[-1].done == count(cells, "done") == COUNT
        assert updates[-1].prompt_tokens == 10 + COUNT


def test_a_failed_worker_costs_what_it_had_begun_and_no_more(
    tmp_path: Path,
) -> None:
    """In batches of 8, each session answers two batches and dies within its third."""
    with asked(tmp_path, spec(crash_at=20), packed()) as (store, cells, updates):
        assert (count(cells, "done"), count(cells, "failed")) == (32, 8)
        assert {cell.reason for cell in cells if cell.reason} == {
            "the engine was killed (signal 9), perhaps because memory ran out"
        }
        assert (updates[-1].done, updates[-1].failed) == (32, 8)
        assert sessions(store) == 2


def test_an_engine_that_always_crashes_comes_to_an_end(tmp_path: Path) -> None:
    with asked(tmp_path, spec(crash_at=1), packed(20)) as (store, cells, _):
        assert count(cells, "failed") == 20
        assert sessions(store) == 3


def test_an_engine_that_always_dies_before_it_begins_comes_to_an_end(
    tmp_path: Path, fickle: None
) -> None:
    with asked(tmp_path, spec("dies at once"), packed()) as (store, cells, _):
        assert count(cells, "failed") == COUNT
        assert sessions(store) == 3
        assert {cell.reason for cell in cells} == {
            "the engine failed 3 times in a row: the engine ended with exit code 3; "
            f"see {tmp_path / 'mock.log'}"
        }


def test_an_engine_that_is_killed_once_before_it_begins_costs_nothing(
    tmp_path: Path, fickle: None
) -> None:
    with asked(tmp_path, spec("dies once at once"), packed()) as (store, cells, _):
        assert count(cells, "done") == COUNT
        assert sessions(store) == 2


def test_an_engine_that_reports_an_error_before_it_begins_is_not_tried_again(
    tmp_path: Path, fickle: None
) -> None:
    with asked(tmp_path, spec("refuses"), packed()) as (store, cells, _):
        assert {cell.reason for cell in cells} == {"I do not like it"}
        assert (count(cells, "failed"), sessions(store)) == (COUNT, 1)


def test_nonsense_costs_the_entry_what_it_has_left_and_is_not_tried_again(
    tmp_path: Path, fickle: None
) -> None:
    with asked(tmp_path, spec("lies in its second batch"), packed()) as (store, cells, updates):
        assert (count(cells, "done"), count(cells, "failed")) == (8, COUNT - 8)
        assert {cell.reason for cell in cells if cell.reason} == {
            "the engine sent what makes no sense: reply.prompt_tokens: 12 of a prompt of 11"
        }
        assert sessions(store) == 1
        assert updates[-1].failed == COUNT - 8


def test_an_engine_that_dies_between_batches_costs_nothing(tmp_path: Path, fickle: None) -> None:
    with asked(tmp_path, spec("dies between batches"), packed()) as (store, cells, _):
        assert count(cells, "done") == COUNT
        assert sessions(store) == 3


def test_a_prompt_that_gets_no_reply_has_failed(tmp_path: Path, fickle: None) -> None:
    with asked(tmp_path, spec("leaves out the last"), packed(4)) as (store, cells, _):
        assert count(cells, "failed") == 4
        assert {cell.reason for cell in cells} == {"the engine gave no reply to it"}
        assert sessions(store) == 1


def test_a_reply_that_failed_is_stored_with_its_reason_and_the_others_stay(
    tmp_path: Path, fickle: None
) -> None:
    with asked(tmp_path, spec("is not finite"), packed(16)) as (store, cells, updates):
        assert (count(cells, "done"), count(cells, "failed")) == (12, 4)
        assert [cell.reason for cell in cells if cell.reason] == [
            "the engine's log-probabilities are not finite", "it is broken",
        ] * 2  # fmt: skip
        assert sessions(store) == 1
        assert updates[-1].failed == 4


@pytest.mark.parametrize(
    ("kind", "prompts", "said"),
    [
        ("alike", 3, "the labels' log-probabilities are the same in all of 3 prompts: "),
        ("level", 8, "all labels have the same log-probability, in all of 8 prompts: "),
        ("alike", COUNT, "the labels' log-probabilities are the same in all of 32 prompts: "),
    ],
)
def test_an_engine_whose_replies_depend_on_nothing_has_failed(
    tmp_path: Path, fickle: None, kind: str, prompts: int, said: str
) -> None:
    with asked(tmp_path, spec(f"always {kind}"), packed(prompts)) as (store, cells, updates):
        assert count(cells, "failed") == prompts
        assert {cell.reason for cell in cells} == {
            f"{said}perhaps the weights are damaged, or the model does not generate text"
        }
        assert sessions(store) == 1
        assert (updates[-1].done, updates[-1].failed) == (0, prompts)


@pytest.mark.parametrize("model", ["always alike", "always alike mock"])
def test_replies_of_one_prompt_and_of_a_mock_may_be_alike(
    tmp_path: Path, fickle: None, model: str
) -> None:
    with asked(tmp_path, spec(model), packed(1 if "mock" not in model else COUNT)) as (_, cells, _):
        assert count(cells, "done") == len(cells)


def test_prompts_that_do_not_fit_have_failed_with_the_reason(tmp_path: Path) -> None:
    what = replace(packed(6), token_ids={VOCABULARY: [[7] * 93, [], [1], [2], [3], [7] * 92]})
    with asked(tmp_path, spec(), what) as (_, cells, updates):
        assert [cell.reason for cell in cells[:2]] == [
            "overflow: the prompt and its reply do not fit in the context",
            "empty: the prompt holds no token",
        ]
        assert count(cells, "done") == 4
        assert updates[-1].failed == 2


def test_failed_cells_are_prompted_again_and_done_ones_are_not(tmp_path: Path) -> None:
    what = packed()
    with asked(tmp_path, spec(crash_at=20), what) as (store, _, _):
        run_id = store.run("latest").run_id
        done = {c.prompt_id: c for c in store.cells(run_id, "mock") if c.status == "done"}
        updates: list[Update] = []
        with opened(tmp_path, spec()) as engine:
            prompt_entry(engine, spec(), workload_of(what), store, run_id, updates.append)
            prompt_entry(engine, spec(), workload_of(what), store, run_id, updates.append)
        cells = store.cells(run_id, "mock")
        assert count(cells, "done") == COUNT
        assert updates[0].done == len(done) == 32
        assert done.items() <= {cell.prompt_id: cell for cell in cells}.items()
        assert sessions(store) == 3


def test_attempts_are_cells_of_their_own_and_the_first_is_what_a_single_one_gives(
    tmp_path: Path,
) -> None:
    sampled = spec().model_copy(update={"temperature": 1.0})
    thrice = sampled.model_copy(update={"attempts": 3})
    with asked(tmp_path / "one", sampled, packed()) as (_, single, _):
        pass
    with asked(tmp_path / "three", thrice, packed()) as (_, cells, updates):
        assert (updates[0].total, updates[-1].done) == (3 * COUNT, 3 * COUNT)
    texts = {(c.prompt_id, c.attempt): c.reply.text for c in cells if c.reply}
    assert len(texts) == 3 * COUNT
    assert {c.prompt_id: c.reply.text for c in single if c.reply} == {
        prompt: text for (prompt, attempt), text in texts.items() if attempt == 0
    }
    assert any(texts[prompt, 1] != texts[prompt, 2] for prompt, _ in texts)


def test_what_is_not_needed_is_left_alone(tmp_path: Path) -> None:
    with Store(tmp_path) as store, opened(tmp_path, spec()) as engine:
        run_id = begin(store, packed())
        [first, second, *_] = [prompt.id for prompt in store.prompts(run_id)]
        store.save_not_needed("mock", [(first, 0), (second, 0)])
        prompt_entry(engine, spec(), workload_of(packed()), store, run_id, lambda _: None)
        cells = store.cells(run_id, "mock")
    assert (count(cells, "done"), count(cells, "not_needed")) == (COUNT - 2, 2)
    assert {c.prompt_id for c in cells if c.status == "not_needed"} == {first, second}


def test_an_engine_that_was_open_already_has_no_load_time_of_its_own(tmp_path: Path) -> None:
    with Store(tmp_path) as store, opened(tmp_path, spec()) as engine:
        runs = [begin(store, packed(4)), begin(store, packed(4))]
        for run_id in runs:
            prompt_entry(engine, spec(), workload_of(packed(4)), store, run_id, lambda _: None)
        loads = [store.sessions(run_id, "mock")[0].load_seconds for run_id in runs]
    assert loads[0] is not None
    assert loads[1] is None


def test_cells_without_a_reply_fail_with_the_reason_of_the_engine(tmp_path: Path) -> None:
    updates: list[Update] = []
    with Store(tmp_path) as store:
        run_id = begin(store, packed(4))
        error = EngineError("it will not start", remedy="Run /home/ada/venv/bin/python.")
        fail_open_cells(store, run_id, "mock", spec(), error, updates.append)
        reasons = {cell.reason for cell in store.cells(run_id, "mock")}
    assert reasons == {"it will not start\ntry: Run ~/venv/bin/python."}
    assert (updates[-1].total, updates[-1].failed) == (4, 4)
