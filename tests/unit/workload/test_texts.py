"""Texts: read from every kind of table, split, drawn, and shown in one line each."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from harness.errors import DataError, UsageError
from harness.spec import RunSpec
from harness.workload import reading
from harness.workload.dataset import Dataset, make_dataset, one_line
from harness.workload.reading import Wanted
from harness.workload.sources import load_dataset
from harness.workload.voters import draw_voters
from harness.workload.workload import draw

N = 40
ROWS: dict[str, list[Any]] = {
    "split": ["train"] * 28 + ["test"] * 12,
    "label": ["good", "bad"] * 20,
    "stars": list(range(N)),
    "review": [f'Film {at}, "quoted"; in\ntwo lines' for at in range(N)],
}


def write_csv(folder: Path, rows: dict[str, list[Any]], separator: str = ",") -> Path:
    path = folder / "data.csv"
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, delimiter=separator)
        writer.writerows([rows, *zip(*rows.values(), strict=True)])
    return path


def write_semicolons(folder: Path, rows: dict[str, list[Any]]) -> Path:
    return write_csv(folder, rows, ";")


def write_parquet(folder: Path, rows: dict[str, list[Any]]) -> Path:
    path = folder / "data.parquet"
    parquet.write_table(pa.table(rows), path)
    return path


def write_jsonl(folder: Path, rows: dict[str, list[Any]]) -> Path:
    path = folder / "data.jsonl"
    lines = (dict(zip(rows, row, strict=True)) for row in zip(*rows.values(), strict=True))
    path.write_text("\n".join(map(json.dumps, lines)))
    return path


WRITERS = [write_csv, write_semicolons, write_parquet, write_jsonl]


def load(path: Path, **wanted: Any) -> Dataset:
    return load_dataset(str(path), 0, Wanted(**wanted))


def refusal(path: Path, **wanted: Any) -> tuple[str, str]:
    with pytest.raises((DataError, UsageError)) as caught:
        load(path, **wanted)
    assert str(path) in str(caught.value)
    return str(caught.value), caught.value.remedy


@pytest.mark.parametrize("wanted", [{}, {"text_column": "review"}], ids=["found", "named"])
def test_the_same_texts_are_the_same_data_in_every_form(
    tmp_path: Path, wanted: dict[str, str]
) -> None:
    hashes = set()
    for write in WRITERS:
        data = load(write(tmp_path, ROWS), **wanted)
        assert data.kind == "text"
        assert data.classes == ("bad", "good")
        assert [*data.X_train, *data.X_test] == ROWS["review"]
        assert data.facts.text_column == "review"
        assert data.facts.is_column_given == bool(wanted)
        assert data.facts.unused_columns == ["stars"]
        hashes.add(data.sha256)
    assert len(hashes) == 1
    other = write_csv(tmp_path, {**ROWS, "review": [*ROWS["review"][:-1], "another"]})
    assert load(other).sha256 not in hashes


@pytest.mark.parametrize("write", WRITERS)
def test_labels_may_be_another_column_of_numbers(tmp_path: Path, write: Any) -> None:
    rows = {"text": ROWS["review"], "sentiment": [0, 1] * 20}
    data = load(write(tmp_path, rows), label_column="sentiment")
    assert data.classes == ("0", "1")
    assert data.facts.test_share == 0.3
    assert Counter(data.y_test.tolist()) == {0: 6, 1: 6}


@pytest.mark.parametrize(
    ("changes", "is_text"),
    [
        ({"review": ["[0.5, 1.5]"] * N}, False),
        ({"review": ["1", "2", "many", "4"] * 10}, None),
        ({"review": ["2012", "I, Robot", "Up", "It"] * 10}, True),
        ({"embedding": ["[0.5, 1.5]"] * N}, True),
        ({"title": ["a", "b"] * 20}, None),
    ],
)
def test_data_is_text_where_one_column_is_not_numeric(
    tmp_path: Path, changes: dict[str, list[Any]], is_text: bool | None
) -> None:
    path = write_csv(tmp_path, {**ROWS, "stars": [0.5] * N, **changes})
    if is_text is None:
        assert "--text-column" in refusal(path)[1]
    else:
        assert load(path).kind == ("text" if is_text else "vectors")


@pytest.mark.parametrize("write", WRITERS)
def test_vectors_without_a_split_get_one_too(tmp_path: Path, write: Any) -> None:
    X = np.random.default_rng(0).normal(size=(N, 2))
    rows = {"label": ROWS["label"], "x": X[:, 0].tolist(), "y": X[:, 1].tolist()}
    data, small = load(write(tmp_path, rows)), load(write(tmp_path, rows), test_share=0.1)
    assert data.kind == "vectors"
    assert (len(data.X_train), len(data.X_test), len(small.X_test)) == (28, 12, 4)


@pytest.mark.parametrize(
    ("wanted", "what"),
    [
        ({"text_column": "text"}, "it has 'split', 'label', 'stars', 'review'"),
        ({"label_column": "class"}, "it has 'split', 'label', 'stars', 'review'"),
        ({"text_column": "label"}, "this is the column of the labels"),
        ({"test_share": 0.5}, "has a column split already"),
    ],
)
def test_a_wish_that_the_table_cannot_grant_is_refused(
    tmp_path: Path, wanted: dict[str, Any], what: str
) -> None:
    for write in WRITERS:
        assert what in refusal(write(tmp_path, ROWS), **wanted)[0]


def test_a_column_that_is_not_there_is_wrong_usage_in_every_form(tmp_path: Path) -> None:
    for write, name in product(WRITERS, ("text_column", "label_column")):
        with pytest.raises(UsageError, match=f"--{name.replace('_', '-')} nope: "):
            load(write(tmp_path, ROWS), **{name: "nope"})


@pytest.mark.parametrize("source", ["digits", "data.npz"])
def test_what_is_no_table_has_no_columns(
    tmp_path: Path, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("data.npz").touch()
    with pytest.raises(UsageError, match="--text-column, --test-share"):
        load_dataset(source, 0, Wanted(text_column="text", test_share=0.5))


def test_numbers_are_no_texts_unless_a_csv_says_so(tmp_path: Path) -> None:
    for write in (write_parquet, write_jsonl):
        assert (
            "column stars is int64, not text"
            in refusal(write(tmp_path, ROWS), text_column="stars")[0]
        )
    assert load(write_csv(tmp_path, ROWS), text_column="stars").X_train[0] == "0"


def test_rows_without_a_text_are_left_out_and_counted(tmp_path: Path) -> None:
    gaps: list[Any] = ["", " \t\n", *ROWS["review"][2:]]
    assert load(write_csv(tmp_path, {**ROWS, "review": gaps})).facts.without_text == 2
    data = load(write_jsonl(tmp_path, {**ROWS, "review": [None, *gaps[1:]]}))
    assert (data.facts.without_text, len(data.X_train)) == (2, 26)
    assert data.classes[data.y_train[0]] == "good"


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ({"deep": [1]}, "line 3, column review: an object or a list, not a text"),
        (["a"], "line 3, column review: an object or a list, not a text"),
        ("x" * (2**20 + 1), "line 3, column review: 1,048,577 characters"),
    ],
    ids=["object", "list", "long"],
)
def test_what_is_no_text_of_a_prompt_is_named_by_its_line(
    tmp_path: Path, text: object, what: str
) -> None:
    texts = [*ROWS["review"][:2], text, *ROWS["review"][3:]]
    assert (
        what in refusal(write_jsonl(tmp_path, {**ROWS, "review": texts}), text_column="review")[0]
    )


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"label,text\na,\xff\n", "invalid UTF8"),
        (b"label,text\na,b,c\n", "Expected 2 columns, got 3"),
        (b"name,text\na,b\n", "no column named label"),
        (b"label,text\n", "no rows"),
        (b"label,Split,text\na,train,b\n", "no column named split, but one named 'Split'"),
        (b"label,text,text\na,b,c\n", "column text occurs twice"),
        (b"label,text\na,x\na,y\n", "only one class"),
        (b"label,text\na,x\nb,y\n", "the class a has one row"),
    ],
)
def test_a_wrong_table_of_texts_is_named(tmp_path: Path, content: bytes, what: str) -> None:
    path = tmp_path / "data.csv"
    path.write_bytes(content)
    assert what in refusal(path)[0]


def test_a_text_that_stands_in_a_file_once_and_in_a_million_rows_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = {**ROWS, "review": ["x" * 100_000] * N}
    path = write_parquet(tmp_path, rows)
    assert path.stat().st_size < 20_000
    monkeypatch.setattr(reading, "_ALWAYS_READ_BYTES", 2**20)
    assert "column review: " in refusal(path)[0]
    assert "which no honest data do" in refusal(path)[0]


# What a prompt shows


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("as it is", "as it is"),
        (" two\n\nlines\tand a tab ", "two lines and a tab"),
        ("nul\0 esc\x1b[1m del\x7f", "nul esc [1m del"),
        ("para\u2029graph\u00a0x", "para graph x"),
        ("e\u0301 👩‍👩‍👧", "e\u0301 👩‍👩‍👧"),
    ],
)
def test_a_text_is_shown_in_one_line(text: str, shown: str) -> None:
    assert one_line(text) == shown


def of_texts(train: Sequence[str], test: Sequence[str]) -> Dataset:
    def split(texts: Sequence[str]) -> tuple[Any, Any]:
        return np.array(texts, dtype=np.object_), np.arange(len(texts)) % 2

    return make_dataset("toy", ("a", "b"), split(train), split(test))


def test_texts_that_a_prompt_shows_alike_are_duplicates() -> None:
    data = of_texts(["caf\u00e9  noir", "b", "c"], ["cafe\u0301 noir", "b\n", "d"])
    assert data.train_test_duplicates == 2


def test_voters_show_other_texts_and_get_the_same_queries() -> None:
    data = of_texts([f"train  {at}" for at in range(60)], [f"test {at}" for at in range(20)])
    first, second = draw_voters(data, RunSpec(voters=2, queries=8, calibration_queries=8))
    assert [*first.queries] == [*second.queries]
    assert first.features == ()
    for voter in (first, second):
        assert {item.words for item in (*voter.examples, *voter.calibration)} <= {
            (f"train {at}",) for at in range(60)
        }
        assert len({item.row for item in (*voter.examples, *voter.calibration)}) == 60
    assert [*first.examples[:10]] != [*second.examples[:10]]


@pytest.mark.parametrize("flag", ["reducer", "feature_fraction", "bootstrap", "encoding"])
def test_what_is_for_vectors_is_refused_only_where_it_is_given(tmp_path: Path, flag: str) -> None:
    spec = RunSpec(data=str(write_csv(tmp_path, ROWS)), voters=1, queries=2)
    assert len(draw(spec, given={"data", "voters"}).voters) == 1
    with pytest.raises(UsageError, match=f"--{flag.replace('_', '-')}: this is for vectors"):
        draw(spec, given={"data", flag})


def test_many_rows_are_drawn_without_making_an_item_of_each(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = of_texts([f"train {at}" for at in range(20_000)], ["x", "y"])
    seen: list[str] = []

    def counted(text: str) -> str:
        seen.append(text)
        return text

    monkeypatch.setattr("harness.workload.texts.one_line", counted)
    [voter] = draw_voters(data, RunSpec(voters=1, queries=2))
    assert len(voter.examples) > 15_000
    assert len([*voter.examples[:10]]) == 10
    assert len(seen) == 10
