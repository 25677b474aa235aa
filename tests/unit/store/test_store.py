from __future__ import annotations

import os
import re
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import datetime, tzinfo
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.exc import IntegrityError

from backends.api import Batch, Capabilities, Reply, SessionInfo
from harness.errors import StoreError
from harness.record import Estimate
from harness.store.prompts import tokens_sha256
from harness.store.runs import StoredRun
from harness.store.schema import (
    RECORDS_VERSION,
    SCHEMA_VERSION,
    BatchRow,
    EntryRow,
    PromptRow,
    SessionUse,
    TokensRow,
)
from harness.store.store import FILE_NAME, Store
from harness.summary import Baseline
from tests.unit.store.made import add_run

INFO = SessionInfo(
    engine="mock",
    engine_version="1",
    model="m",
    weights="none",
    device="cpu",
    threads=2,
    declared_context=100,
    allocated_context=50,
    vocabulary_sha256="0" * 64,
    chat_template="{{ messages }} \U0001f600",
    capabilities=Capabilities(label_logprobs="top_k", clock="client"),
)
PROMPTS = 4

WRITER = """
import sys
from pathlib import Path
from backends.api import Batch, Reply
from harness.store.schema import SessionUse
from harness.store.store import Store

folder, session, batches = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
replies = tuple(Reply(prompt=index, finish="stop", prompt_tokens=7) for index in range(2))
with Store(folder) as store:
    for count in range(1, batches + 1):
        batch = Batch(replies, 1.0, 2.0, count, 1.0, 0, 0.0)
        cells = {0: (1, 0), 1: (2, 0)}
        store.save_batch(session, batch, cells, SessionUse(wall_seconds=float(count)))
        print(count, flush=True)
"""

OPENER = """
import sys
from pathlib import Path
from harness.store.store import Store

sys.stdin.readline()
with Store(Path(sys.argv[1])) as store:
    print(store.create_run("{}", "{}", [], None))
"""


class FixedClock(datetime):
    @classmethod
    def now(cls, tz: tzinfo | None = None) -> FixedClock:
        return cls(2026, 11, 23, 14, 20, 3, tzinfo=tz)


def prompt(position: int) -> PromptRow:
    return PromptRow(
        voter=0,
        role="query",
        position=position,
        row=10 + position,
        label=position % 2,
        examples=5,
        text_sha256="aa",
    )


def token_ids(position: int) -> list[int]:
    return [1, 2, 7 + position]


def begin(store: Store, spec: str = "{}", group: str | None = None) -> str:
    entries = [EntryRow(name, "mock", "m", None) for name in ("mock", "another")]
    return store.create_run(spec, "{}", entries, "dd", group)


def save_prompts(store: Store, run_id: str, *positions: int) -> None:
    rows = [prompt(position) for position in positions]
    texts = [f"x: {position} y:" for position in positions]
    ids = {"00": [token_ids(position) for position in positions]}
    store.save_prompts(run_id, rows, texts, ids, {"mock": "00"}, "{}")


def batch_of(*replies: Reply) -> Batch:
    return Batch(replies, 1.0, 3.5, 100, 2.0, 10, 0.25)


def answer(text: str = "REAL", index: int = 0) -> Reply:
    return Reply(prompt=index, finish="stop", prompt_tokens=7, text=text, token_ids=(1, 2))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "results") as opened:
        yield opened


@pytest.fixture
def run_id(store: Store) -> str:
    run_id = begin(store, '{"seed": 0}')
    save_prompts(store, run_id, *range(PROMPTS))
    return run_id


@pytest.fixture
def session(store: Store, run_id: str) -> int:
    return store.open_session(run_id, "mock", INFO, load_seconds=0.5, model_sha256="cc")


def start(program: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", program, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def prefills(store: Store, run_id: str, entry: str) -> list[int | None]:
    return [batch.prefill_tokens for batch in store.batches(run_id, entry)]


def test_a_run_comes_back_as_it_was(store: Store) -> None:
    entries = [EntryRow("one", "mock", "m", None), EntryRow("two", "mock", "n", None)]
    run_id = store.create_run('{"seed": 1}', '{"cpu": "x"}', entries, "dd", "curve")
    row = store.run(run_id)
    assert (row.spec, row.environment) == ('{"seed": 1}', '{"cpu": "x"}')
    assert (row.summary, row.facts) == (None, None)
    assert (row.data_sha256, row.group, row.records_version) == ("dd", "curve", RECORDS_VERSION)
    assert store.entries(run_id) == entries
    assert re.fullmatch(r"\d{8}-\d{6}-[0-9a-f]{4}", run_id)
    assert row.created.endswith("+00:00")
    assert row.created[:10].replace("-", "") == run_id[:8]


def test_a_run_is_finished_with_its_summary(store: Store, run_id: str) -> None:
    other = begin(store)
    store.finish_run(run_id, '{"a": 1}', [])
    store.finish_run(run_id, '{"a": 2}', [])
    assert store.run(run_id).summary == '{"a": 2}'
    assert store.run(other).summary is None


def test_runs_are_listed_newest_first(store: Store) -> None:
    made = [begin(store) for _ in range(3)]
    assert [row.run_id for row in store.runs()] == made[::-1]
    assert store.run("latest").run_id == made[-1]


def test_a_taken_run_id_is_drawn_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = iter(["aaaa"] * 10 + ["bbbb"])
    monkeypatch.setattr("harness.store.store.secrets.token_hex", lambda _: next(drawn))
    monkeypatch.setattr("harness.store.store.datetime", FixedClock)
    ids = [begin(store) for _ in range(2)]
    assert ids == ["20261123-142003-aaaa", "20261123-142003-bbbb"]


def test_a_run_is_found_by_a_prefix_of_its_id(store: Store, run_id: str) -> None:
    assert store.run(run_id[:8]).run_id == run_id


def test_an_ambiguous_prefix_names_the_runs(store: Store, run_id: str) -> None:
    other = begin(store)
    with pytest.raises(StoreError, match="2 runs") as caught:
        store.run("2")
    assert run_id in caught.value.remedy
    assert other in caught.value.remedy


def test_an_unknown_run_names_near_ones(store: Store, run_id: str) -> None:
    with pytest.raises(StoreError, match="no runs whose id begins with") as caught:
        store.run(run_id[:-1] + "x")
    assert run_id in caught.value.remedy
    with pytest.raises(StoreError, match="nothing like") as caught:
        store.run("nothing like it")
    assert run_id in caught.value.remedy


def test_an_empty_folder_says_how_to_start(store: Store) -> None:
    with pytest.raises(StoreError, match="holds no runs") as caught:
        store.run("latest")
    assert "harness run" in caught.value.remedy


def test_latest_is_the_newest_run_in_no_group(store: Store) -> None:
    alone = begin(store)
    member = begin(store, group="curve")
    assert store.run("latest").run_id == alone
    assert store.run(member).group == "curve"
    assert [row.run_id for row in store.runs()] == [member, alone]


def test_a_folder_of_groups_alone_has_no_latest_run(store: Store) -> None:
    begin(store, group="curve")
    with pytest.raises(StoreError, match="no run outside of a group") as caught:
        store.run("latest")
    assert "curve" in caught.value.remedy


def test_prompts_come_back_in_order_with_ids(store: Store, run_id: str) -> None:
    other = begin(store)
    save_prompts(store, other, 1, 0)
    stored = store.prompts(run_id)
    assert [replace(row, id=0) for row in stored] == [prompt(place) for place in range(PROMPTS)]
    assert len({row.id for row in stored + store.prompts(other)}) == PROMPTS + 2
    assert [row.position for row in store.prompts(other)] == [1, 0]


def test_texts_and_tokens_come_back_in_the_order_of_the_prompts(store: Store) -> None:
    run_id = begin(store)
    rows = [replace(prompt(place), voter=voter) for place in (1, 0) for voter in (2, 0)]
    texts = ["a b", "c", "a c", ""]
    ids = {"00": [[1, 2], [3], [1, 3], []], "11": [[5], [5], [5], [5]]}
    store.save_prompts(run_id, rows, texts, ids, {"mock": "11", "another": "00"}, '{"limit": 1}')
    assert store.prompt_texts(run_id) == texts
    for vocabulary, every in ids.items():
        stored = store.prompt_ids(run_id, vocabulary)
        assert stored is not None
        assert [one.tolist() for one in stored] == every
        rows_of_tokens = [TokensRow(tokens_sha256(one), len(one)) for one in every]
        assert store.prompt_tokens(run_id, vocabulary) == rows_of_tokens
    assert [row.vocabulary for row in store.entries(run_id)] == ["11", "00"]
    assert store.run(run_id).facts == '{"limit": 1}'


def test_a_run_without_prompts_has_no_texts_and_no_tokens(store: Store, run_id: str) -> None:
    other = begin(store)
    assert store.prompt_texts(other) is None
    assert store.prompt_ids(other, "00") is store.prompt_ids(run_id, "22") is None
    assert store.prompt_tokens(other, "00") == store.prompt_tokens(run_id, "22") == []


@pytest.mark.parametrize(("texts", "ids"), [(["a"], [[1], [2]]), (["a", "b"], [[1]])])
def test_prompts_are_stored_with_all_their_tokens_or_not_at_all(
    store: Store, texts: list[str], ids: list[list[int]]
) -> None:
    run_id = begin(store)
    with pytest.raises(ValueError, match="zip"):
        store.save_prompts(run_id, [prompt(0), prompt(1)], texts, {"00": ids}, {}, "{}")
    assert store.prompts(run_id) == []
    assert store.run(run_id).facts is None


def test_no_prompts_are_no_rows(store: Store) -> None:
    run_id = begin(store)
    save_prompts(store, run_id)
    assert store.prompts(run_id) == []


def test_a_prompt_is_stored_once(store: Store, run_id: str) -> None:
    save_prompts(store, run_id, *range(PROMPTS))
    assert len(store.prompts(run_id)) == PROMPTS
    other = begin(store)
    with pytest.raises(IntegrityError):
        save_prompts(store, other, 0, 0)
    assert store.prompts(other) == []


def test_a_session_comes_back_as_it_was(store: Store, run_id: str, session: int) -> None:
    (row,) = store.sessions(run_id, "mock")
    assert (row.id, row.run_id, row.entry) == (session, run_id, "mock")
    assert (row.info, row.load_seconds, row.model_sha256) == (INFO, 0.5, "cc")
    assert row.environment is None
    assert row.use == SessionUse()
    assert store.sessions(run_id, "another") == []


def test_a_closed_session_has_its_use(store: Store, run_id: str, session: int) -> None:
    second = store.open_session(run_id, "mock", INFO, None, environment='{"cpu": "y"}')
    use = SessionUse(12.0, 100.5, None, other_cpu_seconds=2.5, all_cpu_seconds=24.0)
    store.close_session(session, use)
    first, last = store.sessions(run_id, "mock")
    assert (first.id, first.use) == (session, use)
    assert (last.id, last.use) == (second, SessionUse())
    assert (last.load_seconds, last.environment) == (None, '{"cpu": "y"}')


def test_a_session_needs_its_run(store: Store) -> None:
    with pytest.raises(IntegrityError):
        store.open_session("no such run", "mock", INFO, load_seconds=0.5)


def test_a_batch_stores_its_clock_cells_and_use(store: Store, run_id: str, session: int) -> None:
    ids = [row.id for row in store.prompts(run_id)]
    use = SessionUse(wall_seconds=3.0, peak_rss_mib=50.0)
    cells_of = {5: (ids[0], 0), 7: (ids[1], 0)}
    store.save_batch(session, batch_of(answer("B", 7), answer("A", 5)), cells_of, use)
    (batch,) = store.batches(run_id, "mock")
    assert batch == BatchRow(batch.id, session, 1.0, 3.5, 100, 2.0, 10, 0.25)
    cells = store.cells(run_id, "mock")
    assert [cell.reply for cell in cells] == [answer("A", ids[0]), answer("B", ids[1])]
    assert {(cell.status, cell.session_id, cell.batch_id, cell.reason) for cell in cells} == {
        ("done", session, batch.id, None)
    }
    assert store.sessions(run_id, "mock")[0].use == use


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    text=st.text(st.characters(codec=None)),
    token_ids=st.lists(st.integers(0, 2**32)).map(tuple),
    logprobs=st.none() | st.lists(st.none() | st.floats(max_value=0, allow_nan=False)).map(tuple),
    cached=st.none() | st.integers(0, 6),
    milliseconds=st.none() | st.floats(0, 1e9),
)
def test_any_reply_comes_back(
    store: Store,
    text: str,
    token_ids: tuple[int, ...],
    logprobs: tuple[float | None, ...] | None,
    cached: int | None,
    milliseconds: float | None,
) -> None:
    run_id = begin(store)
    save_prompts(store, run_id, 0)
    session = store.open_session(run_id, "mock", INFO, load_seconds=0.5)
    (stored_prompt,) = store.prompts(run_id)
    reply = Reply(
        prompt=0,
        finish="length",
        prompt_tokens=7,
        cached_tokens=cached,
        text=text,
        token_ids=token_ids,
        label_logprobs=logprobs,
        time_to_first_token_ms=milliseconds,
        time_per_output_token_ms=milliseconds,
    )
    store.save_batch(session, batch_of(reply), {0: (stored_prompt.id, 0)}, SessionUse())
    (cell,) = store.cells(run_id, "mock")
    without_surrogates = text.encode(errors="replace").decode()
    assert cell.reply == replace(reply, prompt=stored_prompt.id, text=without_surrogates)


def test_a_lone_surrogate_is_stored_as_a_question_mark(
    store: Store, run_id: str, session: int
) -> None:
    store.save_batch(session, batch_of(answer("a\ud800b\0c\U0001f600")), {0: (1, 0)}, SessionUse())
    store.save_failures("mock", {(2, 0): "bad \udcff"})
    done, failed = store.cells(run_id, "mock")
    assert done.reply is not None
    assert (done.reply.text, failed.reason) == ("a?b\0c\U0001f600", "bad ?")


def test_a_failed_cell_is_replaced_by_a_done_one(store: Store, run_id: str, session: int) -> None:
    store.save_failures("mock", {(1, 0): "crashed", (2, 0): "hung"}, session)
    store.save_failures("mock", {(2, 0): "hung again"})
    first, second = store.cells(run_id, "mock")
    assert (first.status, first.reason, first.session_id) == ("failed", "crashed", session)
    assert (second.reason, second.session_id, second.reply) == ("hung again", None, None)
    store.save_batch(session, batch_of(answer()), {0: (1, 0)}, SessionUse())
    first, second = store.cells(run_id, "mock")
    assert (first.status, first.reason, first.reply) == ("done", None, answer(index=1))
    assert second.status == "failed"


def test_a_done_cell_never_changes(store: Store, run_id: str, session: int) -> None:
    store.save_batch(session, batch_of(answer("first")), {0: (1, 0)}, SessionUse())
    before = store.cells(run_id, "mock")
    store.save_failures("mock", {(1, 0): "late"})
    store.save_batch(session, batch_of(answer("second")), {0: (1, 0)}, SessionUse())
    assert store.cells(run_id, "mock") == before
    assert len(store.batches(run_id, "mock")) == 2


def test_entries_and_runs_have_cells_of_their_own(store: Store, run_id: str, session: int) -> None:
    store.save_batch(session, batch_of(answer()), {0: (1, 0)}, SessionUse())
    other = begin(store)
    assert store.cells(run_id, "another") == store.cells(other, "mock") == []
    assert store.batches(run_id, "another") == store.batches(other, "mock") == []


def test_attempts_at_a_prompt_are_cells_of_their_own(
    store: Store, run_id: str, session: int
) -> None:
    replies = batch_of(answer("third", 0), answer("first", 1), answer("other", 2))
    store.save_batch(session, replies, {0: (1, 2), 1: (1, 0), 2: (2, 0)}, SessionUse())
    store.save_failures("mock", {(1, 1): "crashed"})
    cells = store.cells(run_id, "mock")
    assert [(cell.prompt_id, cell.attempt) for cell in cells] == [(1, 0), (1, 1), (1, 2), (2, 0)]
    texts = [cell.reply.text if cell.reply else cell.reason for cell in cells]
    assert texts == ["first", "crashed", "third", "other"]


def test_a_cell_that_is_not_needed_is_no_failure(store: Store, run_id: str, session: int) -> None:
    store.save_batch(session, batch_of(answer("done")), {0: (1, 0)}, SessionUse())
    store.save_not_needed("mock", [(1, 0), (2, 0)])
    done, left_out = store.cells(run_id, "mock")
    assert (done.status, done.reply) == ("done", answer("done", 1))
    assert (left_out.status, left_out.reason, left_out.reply) == ("not_needed", None, None)


def test_baselines_come_back_in_order_and_replace_earlier_ones(store: Store, run_id: str) -> None:
    share = Estimate(value=0.5, low=0.25, high=0.75)
    first, second = (
        Baseline(name=name, estimate=share, seconds=1.5, predictions=[0, 1]) for name in "ba"
    )
    assert store.baselines(run_id) == []
    store.finish_run(run_id, '{"a": 1}', [second])
    with pytest.raises(IntegrityError):  # two of one name: nothing of it is stored
        store.finish_run(run_id, '{"a": 2}', [first, first])
    assert (store.baselines(run_id), store.run(run_id).summary) == ([second], '{"a": 1}')
    store.finish_run(run_id, '{"a": 2}', [first, second])
    assert store.baselines(run_id) == [first, second]
    assert store.baselines(begin(store)) == []


def test_a_batch_that_cannot_be_stored_leaves_nothing(
    store: Store, run_id: str, session: int
) -> None:
    replies = batch_of(answer("stored?", 0), answer("no such prompt", 1))
    with pytest.raises(IntegrityError):
        store.save_batch(session, replies, {0: (1, 0), 1: (999, 0)}, SessionUse(wall_seconds=1.0))
    assert store.batches(run_id, "mock") == []
    assert store.cells(run_id, "mock") == []
    assert store.sessions(run_id, "mock")[0].use == SessionUse()


def test_texts_are_never_statements(store: Store, run_id: str, session: int) -> None:
    text = "'); DROP TABLE cells; -- :text ? %s"
    store.save_batch(session, batch_of(answer(text)), {0: (1, 0)}, SessionUse())
    (cell,) = store.cells(run_id, "mock")
    assert cell.reply == answer(text, 1)


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_a_killed_writer_loses_no_batch(store: Store, run_id: str, session: int) -> None:
    with start(WRITER, store.path.parent, session, 10_000) as writer:
        assert writer.stdout is not None
        said = [int(writer.stdout.readline()) for _ in range(25)]
        writer.send_signal(signal.SIGKILL)
        said += map(int, writer.stdout.read().splitlines())
    assert writer.returncode == -signal.SIGKILL
    with sqlite3.connect(store.path) as raw:
        assert raw.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    raw.close()
    stored = prefills(store, run_id, "mock")
    assert stored == list(range(1, len(stored) + 1))
    assert len(said) <= len(stored) <= len(said) + 1
    assert store.sessions(run_id, "mock")[0].use.wall_seconds == stored[-1]
    assert [cell.batch_id for cell in store.cells(run_id, "mock")] == [1, 1]


def test_two_processes_write_at_once(store: Store, run_id: str) -> None:
    folder = store.path.parent
    sessions = {name: store.open_session(run_id, name, INFO, 0.5) for name in ("one", "two")}
    writers = [start(WRITER, folder, session, 40) for session in sessions.values()]
    for writer in writers:
        writer.communicate()
        assert writer.returncode == 0
    for name in sessions:
        assert prefills(store, run_id, name) == list(range(1, 41))
        assert len(store.cells(run_id, name)) == 2


def test_several_processes_make_the_file_at_once(tmp_path: Path) -> None:
    openers = [start(OPENER, tmp_path) for _ in range(4)]
    for opener in openers:
        assert opener.stdin is not None
        opener.stdin.write("go\n")
        opener.stdin.flush()
    made = {opener.communicate()[0].strip() for opener in openers}
    with Store(tmp_path) as store:
        assert {row.run_id for row in store.runs()} == made
    assert len(made) == len(openers)


def test_runs_outlive_the_store(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        run_id = begin(store)
    with Store(tmp_path) as store:
        assert store.run("latest").run_id == run_id


def test_the_journal_is_a_write_ahead_log(store: Store) -> None:
    raw = sqlite3.connect(store.path)
    assert raw.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert raw.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)
    raw.close()


@pytest.mark.parametrize("content", [b"this is no database" * 100, b"SQLite format 3\0" * 100])
def test_a_damaged_file_is_one_clear_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE_NAME).write_bytes(content)
    with pytest.raises(StoreError, match=FILE_NAME) as caught:
        Store(tmp_path)
    assert "Move the file away" in caught.value.remedy
    assert (tmp_path / FILE_NAME).read_bytes() == content


def test_damage_found_later_is_the_same_error(store: Store, run_id: str, session: int) -> None:
    store.save_failures("mock", {(1, 0): "x" * 100_000})
    store.close()
    size = store.path.stat().st_size
    with store.path.open("r+b") as file:
        file.seek(size - 50_000)  # in the middle of the long reason
        file.write(b"\xff" * 50_000)
    with Store(store.path.parent) as damaged, pytest.raises(StoreError, match=FILE_NAME) as caught:
        damaged.cells(run_id, "mock")
    assert "Move the file away" in caught.value.remedy


def test_a_folder_that_cannot_be_made_is_a_clear_error(tmp_path: Path) -> None:
    in_the_way = tmp_path / "results"
    in_the_way.write_text("a file")
    with pytest.raises(StoreError, match="results") as caught:
        Store(in_the_way)
    assert "results folder" in caught.value.remedy


def test_a_file_that_cannot_be_opened_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).mkdir()
    with pytest.raises(StoreError, match="is not a file") as caught:
        Store(tmp_path)
    assert "results folder" in caught.value.remedy


@pytest.mark.skipif(getattr(os, "geteuid", lambda: 0)() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_a_clear_error(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(StoreError, match=FILE_NAME) as caught:
        Store(tmp_path)
    assert "results folder" in caught.value.remedy


def test_a_locked_file_is_a_clear_error(
    store: Store, run_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.store.file.BUSY_SECONDS", 0.01)
    raw = sqlite3.connect(store.path, isolation_level=None)
    raw.execute("BEGIN IMMEDIATE")
    with (
        Store(store.path.parent) as waiting,
        pytest.raises(StoreError, match="locked") as caught,
    ):
        waiting.finish_run(run_id, "{}", [])
    raw.close()
    assert "Another process" in caught.value.remedy


def test_a_folder_that_cannot_be_made_is_called_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"results folder .*file/results could not be made"):
        Store(tmp_path / "file" / "results")


def test_cells_are_counted_and_prompts_measured_without_being_read(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        run_id = add_run(store)
        entry = StoredRun(store, store.run(run_id)).entry("mock")
        assert entry.batch_sizes == Counter(cell.batch_id for cell in entry.cells)
        assert entry.longest_prompt == max(one.n_tokens for one in entry.tokens) == 3
        with closing(sqlite3.connect(tmp_path / FILE_NAME)) as connection:
            connection.execute("UPDATE cells SET batch_id = 'b'")
            connection.execute("UPDATE prompt_tokens SET n_tokens = 'many'")
            connection.commit()
        for name in ("batch_sizes", "longest_prompt"):
            with pytest.raises(StoreError, match="cannot be read"):
                getattr(entry, name)
