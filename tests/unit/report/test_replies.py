"""Prompts and replies as they are looked at: hostile text is shown, and drives nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from harness.errors import UsageError
from harness.report.formats import Answer, as_csv, as_json, as_markdown
from harness.report.replies import Wanted, prompt_answer, replies_answer, unparsed_notes
from harness.scoring.verdicts import Verdict
from harness.store.runs import StoredRun
from harness.store.store import Store
from tests.unit.store.made import add_run


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path) as opened:
        yield opened


def stored(store: Store, *replies: str, **more: object) -> StoredRun:
    # mypy takes every value of a mapping for every parameter.
    run_id = add_run(store, replies, **more) if replies else add_run(store, **more)  # type: ignore[arg-type]
    return StoredRun(store, store.run(run_id))


def printed(answer: Answer, width: int = 120) -> str:
    console = Console(width=width, highlight=False, markup=False)
    with console.capture() as capture:
        console.print(answer.parts, crop=False)
    return capture.get()


def test_wrong_and_unparsed_replies_come_first(store: Store) -> None:
    answer = replies_answer(stored(store), Wanted(), None)
    found = [(one["query"], one["verdict"], one["reason"]) for one in answer.data["replies"]]
    assert found == [
        (1, "wrong", None),
        (2, "unparsed", "no_label"),
        (3, "unparsed", "two_labels"),
        (0, "right", None),
    ]
    text = printed(answer)
    assert "mock: 1 wrong, 2 unparsed, 0 failed, 1 right" in text
    assert "--prompt 0:1" in text
    assert r"\x1b[31m no\nyes" in text
    assert "\x1b" not in text + as_csv(answer)
    assert json.loads(as_json(answer))["replies"][2]["text"] == "\x1b[31m no\nyes"
    assert "31m no\nyes" in as_csv(answer)  # in quotes: CSV holds lines
    assert "unparsed" in as_markdown(answer)


def test_a_long_reply_is_shortened_with_a_mark_in_tables_only(store: Store) -> None:
    answer = replies_answer(stored(store, "y" * 500, "no"), Wanted(), None)
    assert "(+440)" in printed(answer)
    assert "y" * 500 in as_csv(answer)
    assert "y" * 500 in as_json(answer)


def test_replies_are_filtered_and_what_is_left_out_is_said(store: Store) -> None:
    run = stored(store, backend=("mock", "other"))
    every = replies_answer(run, Wanted(), 3)
    assert len(every.data["replies"]) == 3
    assert every.data["left_out"] == 5
    assert "and 5 more: --limit 8 shows all." in printed(every)
    one = replies_answer(run, Wanted("other", Verdict.UNPARSED, 0, 3), None)
    [reply] = one.data["replies"]
    assert (reply["entry"], reply["query"]) == ("other", 3)
    assert one.data["counts"] == {"other": {"wrong": 0, "unparsed": 1, "failed": 0, "right": 0}}
    assert "No such reply" in printed(replies_answer(run, Wanted(only=Verdict.FAILED), None))
    with pytest.raises(UsageError, match=r"--voter 1: .* has 0 to 0"):
        replies_answer(run, Wanted(voter=1), None)
    with pytest.raises(UsageError, match=r"--query -1: .* has 0 to 3"):
        replies_answer(run, Wanted(query=-1), None)


def test_a_failed_prompt_has_its_reason(store: Store) -> None:
    run_id = add_run(store, finished=False)
    [first, *_] = store.prompts(run_id)
    store.save_failures("mock", {(first.id, 1): "the engine\x1b[2J was killed"})
    spec = store.run(run_id).spec.replace('"attempts":1', '"attempts":2')
    with store._write() as connection:
        connection.exec_driver_sql("UPDATE runs SET spec = ?", (spec,))
    answer = replies_answer(StoredRun(store, store.run(run_id)), Wanted(only=Verdict.FAILED), None)
    text = printed(answer)
    assert r"the engine\x1b[2J was killed" in text
    assert "attempt 1" in text


def test_a_prompt_is_shown_as_it_was_given(store: Store) -> None:
    [entry] = stored(store).entries.values()
    answer = prompt_answer(entry, "0:2")
    assert answer.data["text"] == "x: 2 y:"
    assert answer.data["token_ids"] == [1, 2, 2]
    assert (answer.data["row"], answer.data["true_label"]) == (9, "FAKE")
    text = printed(answer, 40)
    assert "\nx: 2 y:\n" in text
    assert "3 tokens" in text
    assert "1 2 2" in text
    assert "```\nx: 2 y:\n```" in as_markdown(answer)
    assert prompt_answer(entry, "0:c0").data["role"] == "calibration"


@pytest.mark.parametrize("place", ["1:0", "0:4", "0:c1", "0", "a:b", ":", "0:-1", "0:\u00b2"])
def test_a_prompt_that_is_not_there_names_those_that_are(store: Store, place: str) -> None:
    [entry] = stored(store).entries.values()
    with pytest.raises(UsageError) as caught:
        prompt_answer(entry, place)
    assert caught.value.remedy == (
        "VOTER is 0 to 0; QUERY is 0 to 3, or for a calibration prompt c0 to c0."
    )


def test_where_no_reply_could_be_read_three_are_shown_and_what_to_try(store: Store) -> None:
    run = stored(store, "\x1b[2Ja", "b", "c", "d", backend=("mock", "other"))
    notes = unparsed_notes(run, run.summary.runs)
    assert [note.plain.splitlines()[0] for note in notes] == [
        f"No reply of {name} could be read as a label (no, yes). The first 3 of 4:"
        for name in ("mock", "other")
    ]
    assert notes[0].plain.splitlines()[1] == r'  0:0  "\x1b[2Ja"'
    assert "try: --decoding choice" in notes[0].plain
    read = stored(store)
    assert unparsed_notes(read, read.summary.runs) == []


def test_of_many_labels_the_first_are_named(store: Store) -> None:
    run = stored(store, "a", "b", "c", "d")
    [one] = run.summary.runs
    many = one.model_copy(update={"label_words": [f"class {at}" for at in range(150)]})
    [note] = unparsed_notes(run, [many])
    line = note.plain.splitlines()[0]
    assert "class 0, class 1" in line
    assert len(line) < 300
