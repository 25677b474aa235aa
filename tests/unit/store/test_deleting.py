from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy.exc import IntegrityError

from harness.store.lock import is_any_prompted, prompting
from harness.store.runs import StoredRun
from harness.store.store import Store
from tests.unit.store.made import add_run
from tests.unit.store.test_archive import everything

TABLES = (
    *("runs", "entries", "sessions", "prompts", "prompt_tokens", "prompt_texts", "prompt_ids"),
    *("batches", "cells", "baselines", "processor_use", "run_names"),
)


def counts(store: Store) -> dict[str, int]:
    with closing(sqlite3.connect(store.path)) as raw:
        return {
            table: raw.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in TABLES
        }


def test_all_of_a_run_goes_and_the_others_stay(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        stays = add_run(store)
        before, of_others = everything(StoredRun(store, store.run(stays))), counts(store)
        gone = [add_run(store, backend=("mock", "other")), add_run(store, name="mine")]
        assert store.entry_names() == {"mock", "other"}
        assert store.size([stays, gone[0]]) == {stays: 5, gone[0]: 10}
        store.delete_runs(gone)
        assert counts(store) == of_others
        assert everything(StoredRun(store, store.run(stays))) == before
        assert store.entry_names() == {"mock"}
        add_run(store, name="mine")  # the name is free again


def test_references_are_checked_again_afterwards(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        store.delete_runs([add_run(store)])
        with pytest.raises(IntegrityError):
            store.save_failures("mock", {(99, 0): "there is no such prompt"})


def test_space_is_given_back_where_it_is_worth_it(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        add_run(store)
        large = add_run(store, ["x" * 2000 + str(n) for n in range(200)])
        store.give_back_space()
        whole = store.path.stat().st_size
        store.delete_runs([large])
        store.give_back_space()
        assert store.path.stat().st_size < whole / 2
        assert len(store.runs()) == 1


def test_whether_any_run_is_prompted(tmp_path: Path) -> None:
    assert not is_any_prompted(tmp_path)
    (tmp_path / "left-over.lock").touch()
    assert not is_any_prompted(tmp_path)
    with prompting(tmp_path, "a-run"):
        assert is_any_prompted(tmp_path)
        assert (tmp_path / "a-run.lock").exists()
    assert list(tmp_path.iterdir()) == []
