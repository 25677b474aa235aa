from __future__ import annotations

import gc
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from backends.api import Batch, Reply, SessionInfo
from harness.errors import StoreError, UsageError
from harness.imports.records import Figure, Imported, ImportFile, ImportRow
from harness.record import Estimate
from harness.spec import RunSpec
from harness.store.prompts import tokens_sha256
from harness.store.runs import Results, has_results, sides
from harness.store.schema import EntryRow, PromptRow, SessionUse
from harness.store.store import FILE_NAME, Store
from harness.summary import Baseline, Facts, PromptTokens

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
)
FACTS = Facts(
    dataset="d",
    classes=["FAKE", "REAL"],
    label_words=["no", "yes"],
    train_test_duplicates=0,
    examples_available=[5],
    calibration=[0],
    tokens_per_example=2.5,
    limit=50,
    reserve=8,
    stop=["\n"],
    labels={"00": [[1], [2]]},
    tokens={"mock": PromptTokens(same_as_first=True, tokenized_by="mock", own_difference=None)},
)
TEXTS = ["x: 1 y:", "x: 2 y:"]
TOKEN_IDS = [[1, 2, 3], [1, 2, 4]]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path) as opened:
        yield opened


@pytest.fixture
def results(store: Store) -> Iterator[Results]:
    with Results(store.path.parent) as opened:
        yield opened


def begin(store: Store, *names: str, group: str | None = None) -> str:
    spec = RunSpec(backend=names or ("mock",), voters=1, attempts=2)
    entries = [EntryRow(name, "mock", "m", None) for name in spec.backend]
    return store.create_run(spec.model_dump_json(), "{}", entries, "dd", group)


def save_prompts(store: Store, run_id: str) -> None:
    prompts = [
        PromptRow(0, "query", place, row=7 + place, label=place, examples=5, text_sha256="aa")
        for place in range(2)
    ]
    store.save_prompts(
        run_id, prompts, TEXTS, {"00": TOKEN_IDS}, {"mock": "00"}, FACTS.model_dump_json()
    )


def renamed(store: Store, run_id: str, new: str) -> str:
    """A run under an id that a test can foresee; it has no prompts yet."""
    store.close()
    raw = sqlite3.connect(store.path, isolation_level=None)
    raw.execute("UPDATE runs SET run_id = ? WHERE run_id = ?", (new, run_id))
    raw.execute("UPDATE entries SET run_id = ? WHERE run_id = ?", (new, run_id))
    raw.close()
    return new


def test_what_is_stored_of_a_run_is_read_back(store: Store, results: Results) -> None:
    run_id = begin(store)
    save_prompts(store, run_id)
    baseline = Baseline(
        name="b", estimate=Estimate(value=0.5, low=0.1, high=0.9), seconds=0.1, predictions=[0, 1]
    )
    run = results.run(run_id)
    assert (run.run_id, run.group, run.data_sha256, run.is_finished) == (run_id, None, "dd", False)
    assert run.baselines == []
    store.finish_run(run_id, "{}", [baseline])
    run = results.run(run_id)
    assert (run.spec.backend, run.facts, run.classes) == (("mock",), FACTS, FACTS.classes)
    assert (run.texts, run.baselines) == (TEXTS, [baseline])
    [entry] = run.entries.values()
    assert entry.run is run
    assert (entry.name, entry.backend, entry.model, entry.vocabulary) == ("mock", "mock", "m", "00")
    assert entry.token_ids is not None
    assert [ids.tolist() for ids in entry.token_ids] == TOKEN_IDS
    assert [row.token_sha256 for row in entry.tokens] == list(map(tokens_sha256, TOKEN_IDS))
    assert (entry.info, entry.sessions, entry.batches, entry.cells) == (None, [], [], [])


def test_an_entry_that_was_given_no_tokens_has_none(store: Store, results: Results) -> None:
    run_id = begin(store, "mock", "late")
    save_prompts(store, run_id)
    late = results.run(run_id).entry("late")
    assert (late.vocabulary, late.tokens, late.token_ids) == (None, [], None)


def test_replies_go_by_prompt_and_attempt(store: Store, results: Results) -> None:
    run_id = begin(store)
    save_prompts(store, run_id)
    first, second = (prompt.id for prompt in store.prompts(run_id))
    session = store.open_session(run_id, "mock", INFO, 0.5)
    answers = (
        Reply(0, "stop", 3, None, text="yes", label_logprobs=(-2.5, None)),
        Reply(1, "stop", 3, 2, text="no", time_to_first_token_ms=4.5),
    )
    cells = {0: (second, 1), 1: (first, 0)}
    store.save_batch(session, Batch(answers, 0.0, 1.0), cells, SessionUse())
    store.save_failures("mock", {(second, 0): "hung"}, session)
    store.save_not_needed("mock", [(first, 1)])
    run = results.run(run_id)
    replies = run.entry("mock").replies
    assert {key: reply.text for key, reply in replies.items()} == {(0, 0): "no", (1, 1): "yes"}
    assert run.entry("mock").info == INFO

    records = list(run.replies())
    assert [(one.query, one.attempt, one.status) for one in records] == [
        (0, 0, "done"),
        (0, 1, "not_needed"),
        (1, 0, "failed"),
        (1, 1, "done"),
    ]
    no, left_out, hung, yes = records
    assert (no.text, no.true_label, no.row, no.label_logprobs) == ("no", "FAKE", 7, None)
    assert (no.cached_tokens, no.time_to_first_token_ms) == (2, 4.5)
    assert (no.text_sha256, no.token_sha256) == ("aa", tokens_sha256(TOKEN_IDS[0]))
    assert (left_out.text, left_out.reason) == (None, None)
    assert (hung.reason, hung.text, hung.true_label) == ("hung", None, "REAL")
    assert (yes.label_logprobs, yes.cached_tokens) == ({"FAKE": -2.5, "REAL": None}, None)

    assert (no.label, no.verdict, no.completion_tokens) == ("FAKE", "right", None)
    assert (yes.label, yes.verdict, yes.reason) == ("REAL", "right", None)
    assert (hung.label, hung.verdict, left_out.verdict) == (None, "failed", None)

    frame = run.frame()
    assert list(frame.status) == [one.status for one in records]
    assert list(frame.columns) == [
        *("run_id", "entry", "backend", "model", "voter", "role", "query", "row", "true_label"),
        *("attempt", "status", "label", "verdict", "reason", "text", "finish"),
        *("prompt_tokens", "cached_tokens", "completion_tokens"),
        *("time_to_first_token_ms", "time_per_output_token_ms", "logprob_FAKE", "logprob_REAL"),
        *("text_sha256", "token_sha256"),
    ]
    assert frame.logprob_FAKE.tolist()[3] == -2.5
    assert frame.logprob_REAL.isna().all()
    assert frame.prompt_tokens.isna().tolist() == [False, True, True, False]
    assert frame.prompt_tokens.sum() == 6


def test_a_run_without_cells_is_a_frame_without_rows(store: Store, results: Results) -> None:
    run_id = begin(store)
    save_prompts(store, run_id)
    frame = results.run(run_id).frame()
    assert len(frame) == 0
    assert "logprob_REAL" in frame.columns


def test_runs_come_newest_first_and_latest_is_in_no_group(store: Store, results: Results) -> None:
    alone = begin(store)
    members = [begin(store, group="curve") for _ in range(2)]
    assert [run.run_id for run in results] == [*members[::-1], alone]
    assert results.run("latest").run_id == alone


def test_groups_hold_their_runs_oldest_first(store: Store, results: Results) -> None:
    older = [begin(store, group="curve"), begin(store, group="curve")]
    begin(store)
    newer = [begin(store, group="a sweep")]
    groups = results.groups()
    assert list(groups) == ["a sweep", "curve"]
    assert [run.run_id for run in groups["curve"]] == older
    assert [run.run_id for run in results.group("a sweep")] == newer
    with pytest.raises(StoreError, match="no group 'none'") as caught:
        results.group("none")
    assert "curve" in caught.value.remedy


def test_a_folder_without_groups_says_so(store: Store, results: Results) -> None:
    begin(store)
    with pytest.raises(StoreError, match="no group 'curve'") as caught:
        results.group("curve")
    assert "no groups" in caught.value.remedy


def test_a_groups_name_goes_before_a_beginning_and_a_runs_id_before_all(
    store: Store, results: Results
) -> None:
    run_id = renamed(store, begin(store), "20261123-140000-aaaa")
    member = begin(store, group="20261123")
    assert results.is_group("20261123")
    with pytest.raises(StoreError, match="20261123 is a group of 1 runs") as caught:
        results.run("20261123")
    assert member in caught.value.remedy
    assert results.run("20261123-14").run_id == run_id

    begin(store, group=run_id)
    assert not results.is_group(run_id)
    assert results.run(run_id).run_id == run_id
    assert not results.is_group("2026")


def test_entries_are_named_by_run_and_entry(store: Store, results: Results) -> None:
    run_id = begin(store, "mock", "other")
    assert [entry.name for entry in results.entries(run_id)] == ["mock", "other"]
    assert [entry.name for entry in results.entries("latest")] == ["mock", "other"]
    [entry] = results.entries(f"{run_id}:other")
    assert (entry.run.run_id, entry.name) == (run_id, "other")
    with pytest.raises(StoreError, match="has no entry 'hf'") as caught:
        results.entries(f"{run_id}:hf")
    assert "mock, other" in caught.value.remedy


def test_latest_with_an_entry_is_the_newest_finished_run_that_has_it(
    store: Store, results: Results
) -> None:
    wanted = begin(store, "other")
    without = begin(store, "mock")
    begin(store, "other")  # not finished
    member = begin(store, "other", group="curve")
    for run_id in (wanted, without, member):
        store.finish_run(run_id, "{}", [])
    [entry] = results.entries("latest:other")
    assert entry.run.run_id == wanted
    with pytest.raises(StoreError, match="no finished run has the entry 'hf'"):
        results.entries("latest:hf")


def test_near_runs_are_named_where_none_is_meant(store: Store, results: Results) -> None:
    run_id = begin(store)
    with pytest.raises(StoreError, match="no runs whose id begins with") as caught:
        results.entries(f"{run_id[:-1]}x:mock")
    assert run_id in caught.value.remedy


def test_a_folder_without_results_is_an_error_and_stays_empty(tmp_path: Path) -> None:
    assert not has_results(tmp_path)
    with pytest.raises(StoreError, match="holds no runs") as caught:
        Results(tmp_path / "none")
    assert "harness run" in caught.value.remedy
    assert list(tmp_path.iterdir()) == []


def test_results_need_not_be_closed(store: Store) -> None:
    begin(store)
    run = next(iter(Results(store.path.parent)))
    gc.collect()
    assert run.spec.voters == 1
    assert has_results(store.path.parent)


def test_sides_are_each_read_once_and_in_order(store: Store, results: Results) -> None:
    first, second = begin(store, "mock", "other"), begin(store)
    figure = Figure(metric="accuracy", unit="share", value=0.5)
    fields = {"tool": "t", "tool_version": "", "engine": "", "model": "", "test": ""}
    store.save_imports(
        [
            ImportFile(
                "f.json", "a" * 64, (Imported.model_validate({**fields, "figures": [figure]}),)
            )
        ]
    )
    run = results.run(first)
    found = sides([f"{second}:mock", run, "import-a", run.entry("mock"), second], results)
    names = [
        one.import_id if isinstance(one, ImportRow) else (one.run.run_id, one.name) for one in found
    ]
    assert names == [
        (second, "mock"),
        (first, "mock"),
        (first, "other"),
        f"import-{'a' * 10}",
    ]
    assert len(sides([run])) == 2


def test_one_side_is_nothing_to_compare(store: Store, results: Results) -> None:
    run_id = begin(store)
    with pytest.raises(UsageError, match="two runs or more"):
        sides([run_id, results.run(run_id)], results)


def test_a_summary_without_the_entry_is_an_unreadable_run(
    old_results: Callable[[int], Path],
) -> None:
    folder = old_results(3)
    Store(folder).close()
    raw = sqlite3.connect(folder / FILE_NAME, isolation_level=None)
    raw.execute("UPDATE entries SET name = 'gone' WHERE name = 'twin'")
    raw.close()
    with Results(folder) as results:
        [entry] = results.entries("latest:gone")
        with pytest.raises(StoreError, match="cannot be read: its summary lacks the entry gone"):
            _ = entry.summary


def test_facts_that_lack_an_entry_are_an_unreadable_run(store: Store, results: Results) -> None:
    run_id = begin(store, "mock", "other")
    save_prompts(store, run_id)
    # Nothing is known of one whose tokenizer could not be opened.
    assert results.run(run_id).facts == FACTS
    with closing(sqlite3.connect(store.path, isolation_level=None)) as raw:
        raw.execute("UPDATE entries SET vocabulary = '00'")
    with pytest.raises(StoreError, match=r"cannot be read: facts\.tokens: .* the entry other"):
        _ = results.run(run_id).facts


def test_damaged_prompts_are_an_unreadable_run(store: Store, results: Results) -> None:
    run_id = begin(store)
    save_prompts(store, run_id)
    raw = sqlite3.connect(store.path, isolation_level=None)
    raw.execute("UPDATE prompt_texts SET content = x'00'")
    raw.execute("UPDATE prompt_ids SET voter = 3")
    raw.close()
    run = results.run(run_id)
    with pytest.raises(StoreError, match="cannot be read: its prompts are damaged"):
        _ = run.texts
    with pytest.raises(StoreError, match="cannot be read: its prompts are damaged"):
        _ = run.entry("mock").token_ids
