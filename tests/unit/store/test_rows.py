"""Whatever one field holds, what is read is as its type says, or one error names run and field."""

from __future__ import annotations

import shutil
from pathlib import Path
from random import Random

import pytest

from backends.api import Batch, Reply
from harness.errors import StoreError
from harness.imports.records import ImportRow
from harness.machine.environment import describe_environment
from harness.record import Estimate
from harness.spec import RunSpec
from harness.store.runs import Results, StoredRun
from harness.store.schema import EntryRow, SessionUse
from harness.store.store import FILE_NAME, Store
from harness.summary import Baseline
from tests.soak.damage import IN_COLUMNS, TABLES, Damage, damages, plant
from tests.unit.report.conftest import Sample
from tests.unit.store.test_imports import ONE
from tests.unit.store.test_runs import INFO, save_prompts

KINDS_OF_A_COLUMN = 2


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """A store of two runs, of which the second will be damaged."""
    folder = tmp_path_factory.mktemp("sound")
    with Store(folder) as store:
        ids = [fill(store) for _ in range(2)]
        store.save_imports([ONE])
    return folder, ids[0], ids[1]


def fill(store: Store) -> str:
    sample = Sample()
    environment = describe_environment().model_dump_json()
    entries = [EntryRow("mock", "mock", "m", None)]
    spec = RunSpec(backend="mock", voters=1).model_dump_json()
    run_id = store.create_run(spec, environment, entries, "dd")
    save_prompts(store, run_id)
    session = store.open_session(run_id, "mock", INFO, 0.5, "cc", environment)
    first, second = (prompt.id for prompt in store.prompts(run_id))
    reply = Reply(0, "stop", 3, 1, "yes", (1, 2), (-2.5, None), 4.5, 1.5)
    batch = Batch((reply,), 0.0, 1.0, 3, 0.5, 1, 0.25)
    store.save_batch(session, batch, {0: (first, 0)}, SessionUse(1.0, 2.0, 3.0))
    store.save_failures("mock", {(second, 0): "hung"}, session)
    estimate = Estimate(value=0.5, low=0.1, high=0.9)
    baseline = Baseline(name="b", estimate=estimate, seconds=0.1, predictions=[0, 1])
    summary = sample.summary(sample.mock(), run_id=run_id)
    store.finish_run(run_id, summary.model_dump_json(), [baseline])
    return run_id


def read_all(run: StoredRun) -> None:
    run.check_prompted()
    _ = run.texts, run.classes, run.baselines, run.frame()
    for entry in run.entries.values():
        _ = entry.tokens, entry.token_ids, entry.batches, entry.replies, entry.info, entry.summary


@pytest.mark.parametrize("table", TABLES)
def test_a_damaged_field_is_named_and_hides_no_other_run(
    sound: tuple[Path, str, str], tmp_path: Path, table: str
) -> None:
    folder, other, run_id = sound
    every = [
        damage
        for damage in damages(folder / FILE_NAME, run_id)
        if damage.table == table and not damage.steps
    ]
    columns = list(dict.fromkeys(damage.column for damage in every))
    for column in columns:
        for kind in Random(f"{table}.{column}").sample(list(IN_COLUMNS), KINDS_OF_A_COLUMN):
            shutil.copy(folder / FILE_NAME, tmp_path / FILE_NAME)
            plant(tmp_path / FILE_NAME, run_id, Damage(table, column, (), kind))
            check(tmp_path, other)


def check(folder: Path, other: str) -> None:
    with Results(folder) as results:
        runs = list(results)
        assert len(runs) == 2
        assert len(results.imports()) + len(results.damaged_imports()) == 1
        assert all(isinstance(row, ImportRow) for row in results.imports())
        for run in runs:
            assert all(text.encode() for text in (run.run_id, run.created))
            if run.run_id == other:
                read_all(run)
                continue
            try:
                read_all(run)
            except StoreError as error:
                assert str(error).startswith(f"run {run.run_id} ")
                assert error.remedy


@pytest.mark.parametrize(
    ("table", "column", "kind", "said"),
    [
        ("runs", "created", "another word", "runs.created: "),
        ("runs", "spec", "invalid UTF-8", "runs.spec: "),
        ("runs", "records_version", "negative", "runs.records_version: "),
        ("sessions", "info", "cut", "sessions.info: "),
        ("sessions", "load_seconds", "infinite", "sessions.load_seconds: "),
        ("prompts", "voter", "huge", "prompts.voter: "),
        ("prompts", "position", "huge", "prompts.position: "),
        ("prompts", "role", "another word", "prompts.role: "),
        ("prompts", "label", "huge", "prompts.label: "),
        ("batches", "ended", "negative", "batches.ended: "),
        ("batches", "prefill_tokens", "another type", "batches.prefill_tokens: "),
        ("batches", "id", "huge", "cells.batch_id: "),
        ("cells", "finish", "another word", "cells.finish: "),
        ("cells", "token_ids", "cut", "cells.token_ids: "),
        ("cells", "text", "invalid UTF-8", "cells.text: "),
        ("cells", "attempt", "huge", "cells.attempt: "),
    ],
)
def test_the_error_names_the_field(
    sound: tuple[Path, str, str], tmp_path: Path, table: str, column: str, kind: str, said: str
) -> None:
    folder, _, run_id = sound
    for seed in range(10):  # of the rows, one will do
        shutil.copy(folder / FILE_NAME, tmp_path / FILE_NAME)
        assert plant(tmp_path / FILE_NAME, run_id, Damage(table, column, (), kind), seed)
        with Results(tmp_path) as results:
            [run] = [one for one in results if one.run_id == run_id]
            try:
                read_all(run)
            except StoreError as error:
                assert f"run {run_id} cannot be read: {said}" in str(error)
                return
    pytest.fail("nothing was said")
