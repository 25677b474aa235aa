from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from backends.api import Capabilities
from harness.errors import StoreError, UsageError
from harness.pipeline.summarise import recompute
from harness.store.runs import Results, StoredRun
from harness.store.schema import RECORDS_VERSION, SCHEMA_VERSION
from harness.store.store import FILE_NAME, Store
from harness.summary import RunSummary, headline
from tests.unit.store.test_runs import FACTS

EARLIER = pytest.mark.parametrize("version", [1, 2, 3])
OldResults = Callable[[int], Path]

OPENER = """
import sys
from pathlib import Path
from harness.store.store import Store

sys.stdin.readline()
with Store(Path(sys.argv[1])) as store:
    print(len(store.runs()))
"""

KILLED_ON_THE_WAY = """
import os, signal, sys
from pathlib import Path
from harness.store import store

def upgrade_tables(connection, version, whole=store.upgrade_tables):
    whole(connection, version)
    os.kill(os.getpid(), signal.SIGKILL)

store.upgrade_tables = upgrade_tables
store.Store(Path(sys.argv[1]))
"""


def dump(folder: Path) -> tuple[list[str], int]:
    """Everything in a file, and its version."""
    with closing(sqlite3.connect(folder / FILE_NAME)) as raw:
        return list(raw.iterdump()), raw.execute("PRAGMA user_version").fetchone()[0]


def change(folder: Path, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(folder / FILE_NAME, isolation_level=None)) as raw:
        raw.execute(statement, values)


def rows(folder: Path, query: str) -> list[Any]:
    with closing(sqlite3.connect(folder / FILE_NAME)) as raw:
        return raw.execute(query).fetchall()


def runs_of(results: Results) -> tuple[StoredRun, StoredRun, StoredRun]:
    """As `tests/stores/README.md` has them: plain, of two backends, not finished."""
    unfinished, two, plain = results
    return plain, two, unfinished


@EARLIER
def test_every_run_of_an_earlier_version_can_be_read(old_results: OldResults, version: int) -> None:
    with Results(old_results(version)) as results:
        plain, two, unfinished = runs_of(results)
        assert [run.is_finished for run in (plain, two, unfinished)] == [True, True, False]
        assert list(plain.entries) == list(unfinished.entries) == ["mock"]
        assert list(two.entries) == ["mock", "twin"]
        assert results.run("latest").run_id == unfinished.run_id
        [entry] = results.entries("latest:twin")
        assert (entry.run.run_id, entry.backend, entry.model) == (
            two.run_id,
            "twin",
            "smollm2-135m",
        )
        for run in (plain, two, unfinished):
            assert (run.spec.voters, run.spec.attempts) == (2, 1)
            assert run.environment.logical_cores == 2
            assert (run.group, run.data_sha256, run.facts, run.texts) == (None, None, None, None)
            assert len(run.prompts) == 20
        assert len(results.imports()) == (version == 3)


@EARLIER
def test_cells_sessions_and_tokens_are_all_there(old_results: OldResults, version: int) -> None:
    with Results(old_results(version)) as results:
        _, two, unfinished = runs_of(results)
        mock, twin = two.entries.values()
        assert [len(one.replies) for one in (mock, twin)] == [20, 16]
        assert [cell.status for cell in twin.cells].count("failed") == 4
        assert {cell.reason is None for cell in twin.cells if cell.status == "failed"} == {False}
        assert (len(mock.sessions), len(twin.sessions)) == (1, 1)
        assert {cell.attempt for cell in twin.cells} == {0}
        assert mock.vocabulary == twin.vocabulary == mock.sessions[0].info.vocabulary_sha256
        assert mock.tokens == twin.tokens
        assert len(mock.tokens) == 20
        assert mock.token_ids is None
        assert mock.info is not None
        assert mock.info.capabilities == Capabilities()
        assert len(unfinished.entries["mock"].replies) == 8
        frame = two.frame()
        assert len(frame) == 40
        assert set(frame[frame.entry == "mock"].true_label) == {"FAKE", "REAL"}
        assert frame.token_sha256.notna().all()


def without_order(run: RunSummary) -> RunSummary:
    """Without what version 6 did not have."""
    speed = run.speed.model_copy(update={"in_order_tokens": None})
    missing = {name: why for name, why in run.missing.items() if why != "no_concurrency_given"}
    return run.model_copy(update={"speed": speed, "missing": missing})


@EARLIER
def test_a_summary_has_its_figures_and_nothing_else(old_results: OldResults, version: int) -> None:
    folder = old_results(version)
    [[text]] = rows(folder, "SELECT summary FROM runs ORDER BY created LIMIT 1")
    old = json.loads(text)
    with Results(folder) as results:
        plain, _, _ = runs_of(results)
        [entry] = plain.entries.values()
        new, [before] = entry.summary.model_dump(mode="json"), old["runs"]
        controls = before.pop("controls")
        before["cells"]["not_needed"] = 0
        before["accuracy"]["voter_agreement"] = before["accuracy"].pop("agreement")
        before["caveats"] = [{**one, "figures": {}} for one in before["caveats"]]
        before["speed"].setdefault("least_tokens", before["speed"]["unique_tokens"])
        before["speed"].setdefault("shared_block_tokens", 1)
        before["speed"]["other_cpu_share"] = None
        before["speed"]["in_order_tokens"] = None
        before["context_fit"]["all_tokens"] = None
        assert {key: new[key] for key in before} == before
        assert (new["entry"], new["label_words"], new["missing"]) == ("mock", ["no", "yes"], {})
        assert (new["tokens"]["same_as_first"], new["tokens"]["tokenized_by"]) == (True, "mock")
        assert new["against_baselines"] == []
        assert headline(entry.summary) is not None
        assert [one.name for one in plain.baselines] == [
            "logistic regression, same numbers",
            "random forest, all features",
            "logistic regression, all features",
            "the most frequent class",
        ]
        assert plain.baselines == plain.summary.baselines
        assert plain.baselines[-1].estimate.model_dump() == controls["majority_class"]
        assert {one.predictions for one in plain.baselines} == {None}


def test_a_baseline_that_was_not_there_is_left_out(old_results: OldResults) -> None:
    folder = old_results(3)
    change(
        folder,
        "UPDATE runs SET summary = json_set(summary, '$.runs[0].controls.same_numbers_logistic', "
        "json('null'))",
    )
    with Results(folder) as results:
        assert len(runs_of(results)[0].baselines) == 3


@pytest.mark.parametrize("version", [4, 5])
def test_a_run_of_version_4_or_5_is_whole_and_has_no_name(
    old_results: OldResults, version: int
) -> None:
    folder = old_results(4)
    if version == 5:  # which added a table, and was in no release
        change(
            folder,
            "CREATE TABLE processor_use (session_id INTEGER PRIMARY KEY REFERENCES sessions (id), "
            "other_cpu_seconds FLOAT, all_cpu_seconds FLOAT)",
        )
        change(folder, "PRAGMA user_version = 5")
    with Results(folder) as results:
        plain, two, unfinished = runs_of(results)
        assert [run.name for run in (plain, two, unfinished)] == [None, None, None]
        for run in (plain, two, unfinished):
            run.check_prompted()
            assert run.texts is not None
            assert len(run.texts) == 20
        assert [without_order(one) for one in recompute(plain).runs] == plain.summary.runs
        assert [record.verdict for record in two.replies()].count("failed") == 4
    with Store(folder) as store:
        store.create_run("{}", "{}", [], None, name="mine")
        assert store.run("mine").name == "mine"
        with pytest.raises(UsageError, match="is used already"):
            store.create_run("{}", "{}", [], None, name="mine")


@EARLIER
def test_an_unfinished_run_says_so(old_results: OldResults, version: int) -> None:
    with Results(old_results(version)) as results:
        _, _, unfinished = runs_of(results)
        with pytest.raises(StoreError, match="is not finished") as caught:
            _ = unfinished.summary
        assert f"harness run --resume {unfinished.run_id} --results" in caught.value.remedy
        assert unfinished.baselines == []
        assert unfinished.classes == ["0", "1"]


@EARLIER
def test_batches_follow_each_other(old_results: OldResults, version: int) -> None:
    folder = old_results(version)
    lengths = rows(folder, "SELECT id, session_id, engine_seconds FROM batches ORDER BY id")
    with Results(folder) as results:
        batches = [
            batch for run in results for one in run.entries.values() for batch in one.batches
        ]
    batches.sort(key=lambda batch: batch.id)
    assert [(batch.id, batch.session_id) for batch in batches] == [row[:2] for row in lengths]
    assert [batch.ended - batch.began for batch in batches] == pytest.approx(
        [row[2] for row in lengths]
    )
    ended: dict[int, float] = {}
    for batch in batches:
        assert batch.began == ended.get(batch.session_id, 0.0)
        ended[batch.session_id] = batch.ended


@pytest.mark.parametrize("version", [1, 2, 3, 4])
def test_an_upgraded_file_is_built_like_a_new_one(
    old_results: OldResults, tmp_path: Path, version: int
) -> None:
    folder = old_results(version)
    Store(folder).close()
    Store(tmp_path / "new").close()
    built = "SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY type, name"
    assert rows(folder, built) == rows(tmp_path / "new", built)
    assert rows(folder, "PRAGMA foreign_key_check") == []
    assert rows(folder, "PRAGMA integrity_check") == [("ok",)]
    assert dump(folder)[1] == SCHEMA_VERSION
    again = dump(folder)
    Store(folder).close()
    assert dump(folder) == again


@EARLIER
def test_an_old_run_can_be_completed(old_results: OldResults, version: int) -> None:
    folder = old_results(version)
    with Results(folder) as results, Store(folder) as store:
        plain, _, unfinished = runs_of(results)
        run_id = unfinished.run_id
        [entry] = unfinished.entries.values()
        assert entry.vocabulary is not None
        prompts, texts = unfinished.prompts, [f"text {p.id}" for p in unfinished.prompts]
        token_ids = {entry.vocabulary: [[prompt.id] for prompt in prompts], "new": [[1]] * 20}
        facts = FACTS.model_dump_json()
        store.save_prompts(run_id, prompts, texts, token_ids, {"mock": "new"}, facts)
        opened = prompts[0].id
        store.save_failures(entry.name, {(opened, 0): "crashed"})
        summary = plain.summary.model_copy(update={"run_id": run_id})
        store.finish_run(run_id, summary.model_dump_json(), summary.baselines)

        completed = results.run(run_id)
        assert completed.prompts == prompts
        assert completed.texts == texts
        assert completed.summary == summary
        assert completed.entry("mock").vocabulary == "new"
        assert completed.entry("mock").tokens[0].n_tokens == 1
        assert store.prompt_tokens(run_id, entry.vocabulary) == entry.tokens
        assert len(completed.entry("mock").cells) == 8 + 1


def test_of_version_4_everything_is_read_and_no_use_of_processors(old_results: OldResults) -> None:
    with Results(old_results(4)) as results:
        plain, two, unfinished = runs_of(results)
        for run in (plain, two, unfinished):
            run.check_prompted()
            for entry in run.entries.values():
                for session in entry.sessions:
                    assert session.use.wall_seconds is not None
                    assert session.use.all_cpu_seconds is None
        assert [one.cells.failed for one in two.summary.runs] == [0, 4]
        assert plain.summary.runs[0].speed.other_cpu_share is None
        assert len(unfinished.entries["mock"].replies) == 8


def test_backends_of_one_vocabulary_share_their_tokens(old_results: OldResults) -> None:
    folder = old_results(3)
    before = rows(folder, "SELECT count(*) FROM prompt_tokens")
    Store(folder).close()
    assert before == [(80,)]
    assert rows(folder, "SELECT count(*), count(DISTINCT prompt_id) FROM prompt_tokens") == [
        (60, 60)
    ]


def test_a_backend_that_was_never_opened_was_given_nothing(old_results: OldResults) -> None:
    folder = old_results(3)
    change(folder, "DELETE FROM cells WHERE backend = 'twin'")
    change(
        folder,
        "DELETE FROM batches WHERE session_id IN (SELECT id FROM sessions WHERE backend = 'twin')",
    )
    change(folder, "DELETE FROM sessions WHERE backend = 'twin'")
    with Results(folder) as results:
        twin = runs_of(results)[1].entries["twin"]
        assert (twin.vocabulary, twin.tokens, twin.token_ids, twin.info) == (None, [], None, None)


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_an_upgrade_that_is_killed_leaves_the_file_as_it_was(old_results: OldResults) -> None:
    folder = old_results(1)
    before = dump(folder)
    killed = subprocess.run([sys.executable, "-c", KILLED_ON_THE_WAY, str(folder)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert dump(folder) == before
    with Results(folder) as results:
        assert len(list(results)) == 3


def test_rows_that_do_not_fit_stop_the_upgrade_and_nothing_is_gone(
    old_results: OldResults,
) -> None:
    folder = old_results(3)
    change(folder, "UPDATE cells SET session_id = 999 WHERE rowid = 1")
    before = dump(folder)
    with pytest.raises(StoreError, match="could not be upgraded and was left as it was"):
        Store(folder)
    assert dump(folder) == before


def test_several_processes_upgrade_a_file_once(old_results: OldResults) -> None:
    folder = old_results(1)
    openers = [
        subprocess.Popen(
            [sys.executable, "-c", OPENER, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    for opener in openers:
        assert opener.stdin is not None
        opener.stdin.write("go\n")
        opener.stdin.flush()
    assert [opener.communicate()[0].strip() for opener in openers] == ["3"] * 3
    assert rows(folder, "SELECT count(*) FROM cells") == [(68,)]


@pytest.mark.parametrize("text", ["{", "[]", "null", '{"backend": 7}'])
def test_a_damaged_spec_hides_no_other_run(old_results: OldResults, text: str) -> None:
    folder = old_results(1)
    change(folder, "UPDATE runs SET spec = ? WHERE summary IS NULL", text)
    with Results(folder) as results:
        plain, _, damaged = runs_of(results)
        with pytest.raises(StoreError, match=f"run {damaged.run_id} cannot be read: "):
            _ = damaged.spec
        assert list(damaged.entries) == ["mock"]
        assert plain.summary.run_id == plain.run_id


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"runs": 1}', '{"runs": [{}]}', '"text"'])
@pytest.mark.parametrize("version", [1, 3])
def test_a_damaged_summary_is_one_error_and_hides_no_other_run(
    old_results: OldResults, version: int, text: str
) -> None:
    folder = old_results(version)
    change(folder, "UPDATE runs SET summary = ? WHERE summary LIKE '%twin%'", text)
    with Results(folder) as results:
        plain, damaged, _ = runs_of(results)
        with pytest.raises(StoreError, match=f"run {damaged.run_id} cannot be read: "):
            _ = damaged.summary
        assert damaged.is_finished
        assert len(damaged.entries["twin"].replies) == 16
        assert plain.summary.run_id == plain.run_id


def test_a_file_of_a_newer_version_is_refused_as_it_is(tmp_path: Path) -> None:
    Store(tmp_path).close()
    change(tmp_path, f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    before = dump(tmp_path)
    with pytest.raises(StoreError, match="was written by a newer version") as caught:
        Store(tmp_path)
    assert FILE_NAME in str(caught.value)
    assert "Update the harness" in caught.value.remedy
    assert dump(tmp_path) == before


def test_a_record_of_a_newer_version_is_refused_and_hides_no_other_run(
    old_results: OldResults,
) -> None:
    folder = old_results(3)
    Store(folder).close()
    newer = "UPDATE runs SET records_version = ? WHERE summary LIKE '%twin%'"
    change(folder, newer, RECORDS_VERSION + 1)
    with Results(folder) as results:
        plain, run, _ = runs_of(results)
        for read in ("spec", "environment", "facts", "summary", "texts", "baselines"):
            with pytest.raises(
                StoreError, match=f"run {run.run_id} was written by a newer version of the harness"
            ) as caught:
                getattr(run, read)
            assert "Update the harness" in caught.value.remedy
        with pytest.raises(StoreError, match="newer version"):
            _ = run.entries["mock"].sessions
        assert plain.spec.voters == 2
