"""Asking one engine: what is kept, what a loss costs, and that it comes to an end."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from backends.api import ENTRY_POINT_GROUP
from harness.engine import registry
from harness.engine.engine import Engine
from harness.pipeline.asking import Update, ask
from harness.pipeline.prompts import prompt_rows, tokens_rows
from harness.spec import RunSpec
from harness.store.schema import CellRow
from harness.store.store import Store
from harness.workload.packing import Packed, Prompt

COUNT = 40

# A mock that dies or falls silent where its name says.
FICKLE = """
    import os
    from backends import mock
    from backends.api import Batch, Started

    FORMATS, OPTIONS, requirements = mock.FORMATS, mock.OPTIONS, mock.requirements

    def open_session(model, options):
        return Session(model, options)

    class Session(mock.MockSession):
        def generate(self, prompts, decoding):
            name = self.info.model
            if name == "dies at once":
                os._exit(3)
            batches = 0
            for event in super().generate(prompts, decoding):
                if name == "dies between batches" and batches == 2:
                    os._exit(3)
                if name == "leaves out the last" and isinstance(event, Started):
                    if len(prompts) - 1 in event.prompts:
                        return
                yield event
                batches += isinstance(event, Batch)
"""


@pytest.fixture
def fickle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "fickle.py").write_text(textwrap.dedent(FICKLE), encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.syspath_prepend(str(tmp_path))
    entry = EntryPoint("mock", "fickle", ENTRY_POINT_GROUP)
    monkeypatch.setattr(registry, "entry_points", lambda group: [entry])


def packed(count: int = COUNT) -> Packed:
    prompts = tuple(Prompt(0, "query", i, i, 0, f"prompt {i}") for i in range(count))
    return Packed(
        prompts=prompts,
        shown=((),),
        token_ids={"mock": [[7] * 10 + [i] for i in range(count)]},
        labels={"mock": ((1,), (2,))},
        stop=(),
        limit=100,
        reserve=8,
        tokens_per_example=None,
    )


def spec(model: str = "toy", **engine: Any) -> RunSpec:
    return RunSpec(
        backend="mock", model=model, max_model_len=100, engine=engine, timeout_seconds=20.0
    )


@contextmanager
def asked(
    folder: Path, run: RunSpec, what: Packed
) -> Iterator[tuple[Store, list[CellRow], list[Update]]]:
    """The store, its cells and what was observed, after everything was asked."""
    updates: list[Update] = []
    with Store(folder) as store, Engine("mock", run, folder / "mock.log") as engine:
        run_id = store.create_run("{}", "{}")
        store.save_prompts(run_id, prompt_rows(what), tokens_rows(what))
        ask(engine, run, what, store, run_id, updates.append)
        yield store, store.cells(run_id, "mock"), updates


def count(cells: list[CellRow], status: str) -> int:
    return sum(cell.status == status for cell in cells)


def sessions(store: Store) -> int:
    return len(store.sessions(store.run("latest").run_id, "mock"))


def test_every_reply_is_kept_with_its_own_prompt(tmp_path: Path) -> None:
    what = packed()
    with asked(tmp_path, spec(), what) as (store, cells, _):
        rows = store.prompts(store.run("latest").run_id)
        places = {row.id: row.position for row in rows}
        tokens = store.prompt_tokens(store.run("latest").run_id, "mock")
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


def test_a_lost_engine_costs_what_it_had_begun_and_the_others_are_asked(tmp_path: Path) -> None:
    """In batches of 8, each session answers two batches and dies within its third."""
    with asked(tmp_path, spec(crash_at=20), packed()) as (store, cells, updates):
        assert (count(cells, "done"), count(cells, "failed")) == (32, 8)
        assert {cell.reason for cell in cells if cell.reason} == {
            "the engine was killed (signal 9), perhaps for want of memory"
        }
        assert (updates[-1].done, updates[-1].failed) == (32, 8)
        assert sessions(store) == 2


def test_an_engine_that_always_crashes_comes_to_an_end(tmp_path: Path) -> None:
    with asked(tmp_path, spec(crash_at=1), packed(20)) as (store, cells, _):
        assert count(cells, "failed") == 20
        assert sessions(store) == 3


def test_an_engine_that_dies_before_it_begins_is_not_tried_again(
    tmp_path: Path, fickle: None
) -> None:
    with asked(tmp_path, spec("dies at once"), packed()) as (store, cells, _):
        assert count(cells, "failed") == COUNT
        assert sessions(store) == 1
        assert all(cell.reason and "exit code 3" in cell.reason for cell in cells)


def test_an_engine_that_dies_between_batches_costs_nothing(tmp_path: Path, fickle: None) -> None:
    with asked(tmp_path, spec("dies between batches"), packed()) as (store, cells, _):
        assert count(cells, "done") == COUNT
        assert sessions(store) == 3


def test_a_prompt_that_gets_no_reply_has_failed(tmp_path: Path, fickle: None) -> None:
    with asked(tmp_path, spec("leaves out the last"), packed(4)) as (store, cells, _):
        assert count(cells, "failed") == 4
        assert {cell.reason for cell in cells} == {"the engine gave no reply to it"}
        assert sessions(store) == 1


def test_prompts_that_do_not_fit_have_failed_with_the_reason(tmp_path: Path) -> None:
    what = replace(packed(6), token_ids={"mock": [[7] * 93, [], [1], [2], [3], [7] * 92]})
    with asked(tmp_path, spec(), what) as (_, cells, updates):
        assert [cell.reason for cell in cells[:2]] == [
            "overflow: the prompt and its reply do not fit in the context",
            "empty: the prompt holds no token",
        ]
        assert count(cells, "done") == 4
        assert updates[-1].failed == 2


def test_failed_cells_are_asked_again_and_done_ones_are_not(tmp_path: Path) -> None:
    what = packed()
    with asked(tmp_path, spec(crash_at=20), what) as (store, _, _):
        run_id = store.run("latest").run_id
        done = {c.prompt_id: c for c in store.cells(run_id, "mock") if c.status == "done"}
        updates: list[Update] = []
        with Engine("mock", spec(), tmp_path / "mock.log") as engine:
            ask(engine, spec(), what, store, run_id, updates.append)
            ask(engine, spec(), what, store, run_id, updates.append)
        cells = store.cells(run_id, "mock")
        assert count(cells, "done") == COUNT
        assert updates[0].done == len(done) == 32
        assert done.items() <= {cell.prompt_id: cell for cell in cells}.items()
        assert sessions(store) == 3
