"""Tables: separators, lists in one column, row indices, and a cost that grows with the width."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from pyarrow import parquet

from harness.errors import DataError
from harness.workload import reading, tables
from harness.workload.reading import Part, Wanted
from harness.workload.tables import read_table as read_columns

N = 24
X = np.random.default_rng(0).normal(size=(N, 3)).astype(np.float32)
LABELS = ["a", "b"] * 12
SPLITS = ["train"] * 16 + ["test"] * 8


def frame(**columns: Any) -> pd.DataFrame:
    numbers = {f"x{at}": X[:, at] for at in range(3)}
    return pd.DataFrame({"label": LABELS, "split": SPLITS, **numbers, **columns})


def of_lists(rows: Sequence[Any] = X.astype(np.float64).tolist()) -> pd.DataFrame:
    return pd.DataFrame({"label": LABELS, "split": SPLITS, "embedding": list(rows)})


def to_csv(table: pd.DataFrame, folder: Path, **options: Any) -> Path:
    path = folder / "data.csv"
    table.to_csv(path, **{"index": False, **options})
    return path


def to_parquet(table: pd.DataFrame, folder: Path) -> Path:
    path = folder / "data.parquet"
    table.to_parquet(path)
    return path


def numbers(parts: tuple[Part, Part]) -> NDArray[np.float32]:
    return np.concatenate([part.X for part in parts]).astype(np.float32)


def read_table(path: Path) -> tuple[Part, Part]:
    read = read_columns(path, Wanted())
    return read.train, read.test


def refusal(path: Path) -> tuple[str, str]:
    with pytest.raises(DataError) as caught:
        read_table(path)
    assert str(path) in str(caught.value)
    return str(caught.value), caught.value.remedy


# CSV


@pytest.mark.parametrize(
    "options",
    [
        {"sep": ","},
        {"sep": ";"},
        {"sep": "\t"},
        {"sep": ";", "encoding": "utf-8-sig"},
        {"quoting": 1, "lineterminator": "\r\n"},
        {"lineterminator": "\r"},
    ],
    ids=str,
)
@pytest.mark.parametrize("table", [frame(), of_lists()], ids=["numbers", "lists"])
def test_a_csv_may_be_written_in_many_ways(
    tmp_path: Path, options: dict[str, Any], table: pd.DataFrame
) -> None:
    parts = read_table(to_csv(table, tmp_path, **options))
    np.testing.assert_array_equal(numbers(parts), X)
    assert [*parts[0].labels, *parts[1].labels] == LABELS


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("label|split|x\na|train|1\n", "has 'label|split|x'"),
        ("label split x\na train 1\n", "has 'label split x'"),
        ("Label,Split,x\na,train,1\n", "has 'Label', 'Split', 'x'"),
        ("sep=;\nlabel;split;x\n", "has 'sep=', ''"),
        ("", "has no names"),
        ("\n\n", "has no names"),
        ("x" * 200_000 + ",label\n", "has no names"),
        ("label,split,x\na,train,1\nb,train\n", "Row #3: Expected 3 columns, got 2"),
        ("label,split,x\na,train,0,5\n", "Row #2: Expected 3 columns, got 4"),
        ("label,split,x\né,train,1\n".encode("latin-1"), "invalid UTF8"),
        ("label,split,é\na,train,1\n".encode("latin-1"), "can't decode"),
        ("label,split,x\na,train,1\n".encode("utf-16"), "this is UTF-16"),
    ],
)
def test_what_is_wrong_with_the_text_of_a_csv_is_named(
    tmp_path: Path, text: str | bytes, what: str
) -> None:
    path = tmp_path / "data.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    message, remedy = refusal(path)
    assert what in message
    assert "separators" in remedy
    assert "UTF-8" in remedy


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("label;split;x\na;train;0,5\n", "data row 1, column x: the text '0,5', not a number"),
        ('label,split,x\na,train,"0,5"\n', "data row 1, column x: the text '0,5', not a number"),
        ("label,split,x\na,train,1\nb,train,oops\n", "data row 2, column x: the text 'oops'"),
        ("label,split,x\x1b[1m\na,train,1..\n", "column x\\x1b[1m: the text '1..'"),
        ("label,split,x,y\na,train,,1\n", "column x is empty"),
        ("label,split,x\na,train,true\n", "column x is bool, not numbers"),
    ],
)
def test_what_is_no_number_is_named(tmp_path: Path, text: str, what: str) -> None:
    path = tmp_path / "data.csv"
    path.write_text(text)
    message, remedy = refusal(path)
    assert what in message
    assert "decimal point" in remedy


def test_a_table_without_rows_is_named(tmp_path: Path) -> None:
    assert "no rows" in refusal(to_csv(frame()[:0], tmp_path))[0]


def test_a_row_may_be_longer_than_a_block_of_the_reader(tmp_path: Path) -> None:
    rows = ["[0.5," + " " * 2**20 + "1.5]", *["[0.5, 1.5]"] * (N - 1)]
    assert numbers(read_table(to_csv(of_lists(rows), tmp_path))).tolist() == [[0.5, 1.5]] * N


# Lists


@pytest.mark.parametrize(
    "lists",
    [
        pa.array(X.astype(np.float64).tolist()),
        pa.array(X.tolist(), pa.large_list(pa.float32())),
        pa.FixedSizeListArray.from_arrays(X.ravel(), 3),
        pa.array([json.dumps(row) for row in X.tolist()]),
    ],
    ids=lambda lists: str(lists.type),
)
def test_an_embedding_may_be_one_column(tmp_path: Path, lists: pa.Array) -> None:
    path = tmp_path / "data.parquet"
    table = pa.table({"label": LABELS, "split": SPLITS, "embedding": lists})
    parquet.write_table(table, path, row_group_size=5)
    parts = read_table(path)
    np.testing.assert_array_equal(numbers(parts), X)
    assert parts[1].origin(0, 2) == f"{path}: data row 17, column embedding[2]"


def test_lists_and_numbers_stand_in_the_order_of_their_columns(tmp_path: Path) -> None:
    table = of_lists()
    table.insert(2, "before", X[:, 0])
    table["behind"] = X[:, 1]
    path = to_parquet(table, tmp_path)
    parts = read_table(path)
    np.testing.assert_array_equal(numbers(parts), np.column_stack([X[:, 0], X, X[:, 1]]))
    assert parts[0].column_name(4) == f"{path}: column behind"


def with_row_4(row: Any) -> list[Any]:
    return [row if at == 3 else [0.5, 1.5] for at in range(N)]


@pytest.mark.parametrize("write", [to_csv, to_parquet])
@pytest.mark.parametrize(
    ("row", "what"),
    [([1.0], "1 numbers, 2 in the first row"), (None, "no list"), ([], "0 numbers, 2 in")],
)
def test_lists_of_other_lengths_are_named(
    tmp_path: Path, write: Callable[..., Path], row: Any, what: str
) -> None:
    message, _ = refusal(write(of_lists(with_row_4(row)), tmp_path))
    assert f"data row 4, column embedding: {what}" in message


@pytest.mark.parametrize(
    "text",
    [
        "[0.5 1.5]",  # as numpy writes it
        "[0.5 ... 1.5]",
        "['a', 'b']",
        "[[0.5, 1.5]]",
        '{"0": 0.5}',
        "0.5",
        "[" * 100_000,
        "[1" + "0" * 400 + "]",
        "[" + "9" * 5_000 + "]",
    ],
    ids=lambda text: text[:12],
)
def test_a_text_that_is_no_list_of_numbers_is_named(tmp_path: Path, text: str) -> None:
    rows = [text if at == 3 else "[0.5, 1.5]" for at in range(N)]
    message, remedy = refusal(to_csv(of_lists(rows), tmp_path))
    assert f"data row 4, column embedding: the text {text[:40]!r}, not a number" in message
    assert "[0.5, 1]" in remedy


@pytest.mark.parametrize(
    ("rows", "kind"),
    [
        ([[[0.5]]] * N, "list<element: list<element: double>>"),
        ([["a"]] * N, "list<element: string>"),
        ([{"a": 0.5}] * N, "struct<a: double>"),
        ([None] * N, "empty"),
    ],
)
def test_what_is_no_list_of_numbers_in_parquet_is_named(
    tmp_path: Path, rows: list[Any], kind: str
) -> None:
    assert f"column embedding is {kind}" in refusal(to_parquet(of_lists(rows), tmp_path))[0]


# Row indices


@pytest.mark.parametrize("name", ["Unnamed: 0", "index", "image_id"])
@pytest.mark.parametrize("write", [to_csv, to_parquet])
def test_a_column_that_is_called_and_looks_like_an_index_is_named(
    tmp_path: Path, name: str, write: Callable[..., Path]
) -> None:
    for values in (range(N), np.arange(N) / 1, [7] * N):
        message, remedy = refusal(write(frame(**{name: values}), tmp_path))
        assert f"column {name!r} looks like a row index" in message
        assert "another name" in remedy
    parts = read_table(write(frame(**{name: X[:, 0]}), tmp_path))
    assert numbers(parts).shape == (N, 4)


@pytest.mark.parametrize("index", [[7, *range(1, N)], X[:, 0], [f"{at}.jpg" for at in range(N)]])
def test_the_index_of_a_pandas_table_is_named(tmp_path: Path, index: Any) -> None:
    table = frame().set_index(pd.Index(list(index), name="picture"))
    assert "column 'picture' looks like a row index" in refusal(to_parquet(table, tmp_path))[0]


@pytest.mark.parametrize(
    "table", [frame(), frame().set_index("label"), frame().set_index(["label", "split"])]
)
def test_an_index_that_is_no_number_of_the_vector_does_no_harm(
    tmp_path: Path, table: pd.DataFrame
) -> None:
    np.testing.assert_array_equal(numbers(read_table(to_parquet(table, tmp_path))), X)


@pytest.mark.parametrize("said", [b"", b"{", b"[1]", b'{"index_columns": 3}', b"\xff"])
def test_what_pandas_did_not_write_says_nothing(tmp_path: Path, said: bytes) -> None:
    table = pa.Table.from_pandas(frame(), preserve_index=False)
    path = tmp_path / "data.parquet"
    parquet.write_table(table.replace_schema_metadata({"pandas": said}), path)
    np.testing.assert_array_equal(numbers(read_table(path)), X)


# Parquet


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_a_parquet_file_cut_off_is_named(tmp_path: Path, share: float) -> None:
    path = to_parquet(frame(), tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    assert "Write the file again" in refusal(path)[1]


def test_labels_that_are_no_text_are_named(tmp_path: Path) -> None:
    assert "UTF8" in refusal(to_parquet(frame(label=[b"\xff", b"a"] * 12), tmp_path))[0]


def test_columns_of_one_name_are_named(tmp_path: Path) -> None:
    path = tmp_path / "data.parquet"
    arrays = [pa.array(LABELS), pa.array(SPLITS), pa.array(X[:, 0]), pa.array(X[:, 1])]
    parquet.write_table(pa.table(arrays, names=["label", "split", "x", "x"]), path)
    assert "column x occurs twice" in refusal(path)[0]


def test_a_file_that_unpacks_to_much_more_is_refused_unread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "data.parquet"
    many = {"label": ["a", "b"] * 50_000, "split": ["train", "test"] * 50_000}
    parquet.write_table(pa.table({**many, "x": np.full(100_000, 1.5)}), path)
    assert len(read_table(path)[0].X) == 50_000
    monkeypatch.setattr(reading, "_ALWAYS_READ_BYTES", 2**20)
    monkeypatch.setattr(parquet.ParquetFile, "read", pytest.fail)
    assert "of data, which no honest data do" in refusal(path)[0]


def test_numbers_of_several_types_are_stored_as_all_of_them_allow(tmp_path: Path) -> None:
    """As they always were: the hash of the data of stored runs depends on it."""
    great = 2**60 + 2**36 + 1  # in two steps, by float64, it becomes another float32
    once, twice = np.int64(great).astype(np.float32), np.float32(np.float64(great))
    path = to_parquet(frame(great=[great] * N), tmp_path)
    assert numbers(read_table(path))[0, 3] == twice
    path = to_parquet(frame(great=[great] * N)[["label", "split", "great"]], tmp_path)
    assert numbers(read_table(path))[0, 0] == once != twice


# The cost of a wide table


class Names(list[str]):
    """Names of columns in which nothing is looked for: that would cost a step for each."""

    def _refuse(self, *_: object) -> NoReturn:
        pytest.fail("a name is looked for among all names")

    count = index = __contains__ = _refuse


class Watched:
    """A table that notes what is asked of it."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table
        self.asked: list[str] = []

    def __len__(self) -> int:
        return len(self._table)

    def __getattr__(self, name: str) -> Any:
        self.asked.append(name)
        value = getattr(self._table, name)
        return Names(value) if name == "column_names" else value


def test_a_wide_table_is_asked_for_its_columns_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So the cost of each column is the same, however many there are."""
    asked = []
    for width in (10, 200):
        wide = {f"w{at}": X[:, 0] for at in range(width)}
        table = Watched(pa.table({"label": LABELS, "split": SPLITS, **wide}))
        monkeypatch.setattr(tables, "_read_parquet", lambda *_, table=table: table)
        assert numbers(read_table(to_parquet(frame(), tmp_path))).shape == (N, width)
        asked.append(table.asked)
    assert asked[0] == asked[1]
    assert "column" not in asked[0]


def test_spaces_behind_the_separators_are_named(tmp_path: Path) -> None:
    path = tmp_path / "spaces.csv"
    path.write_text("label, split, f0\na, train, 0.5\nb, test, 1.5\n")
    with pytest.raises(DataError, match="one named ' split'") as caught:
        read_table(path)
    assert "no spaces behind the separators" in caught.value.remedy


@pytest.mark.parametrize(
    ("images", "found"),
    [
        (json.dumps([f"train/a/{row}.png" for row in range(len(X))]), True),
        (json.dumps(["train/a/0.png"]), False),  # not one for each row
        (json.dumps(dict.fromkeys(range(len(X)))), False),
        (json.dumps(list(range(len(X)))), False),
        ("[" * 100_000, False),
    ],
)
def test_the_names_of_images_go_with_their_rows_where_they_are_names(
    tmp_path: Path, images: str, found: bool
) -> None:
    table = pa.Table.from_pandas(of_lists()).replace_schema_metadata({"images": images})
    path = tmp_path / "data.parquet"
    parquet.write_table(table, path)
    for part in read_table(path):
        assert bool(part.images) == found
        for row, name in zip(part.X, part.images, strict=False):
            place = int(name.removeprefix("train/a/").removesuffix(".png"))
            assert row.astype(np.float32).tolist() == X[place].tolist()
