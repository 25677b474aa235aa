"""Datasets from files: every form gives the same dataset, and every fault is named."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import csv, parquet

from harness.errors import DataError, UsageError
from harness.workload.dataset import Dataset
from harness.workload.sources import load_dataset

X_TRAIN = np.arange(12, dtype=np.float32).reshape(4, 3)
X_TEST = np.array([[6, 7, 8], [0.5, 1, 2], [9, 9, 9]], dtype=np.float32)
Y_TRAIN = ["cat", "cat", "dog", "dog"]
Y_TEST = ["cat", "dog", "dog"]
SPLITS = ["train"] * 4 + ["test"] * 3


def write_folder(path: Path) -> Path:
    for split, X, y in (("train", X_TRAIN, Y_TRAIN), ("test", X_TEST, Y_TEST)):
        for number, (vector, label) in enumerate(zip(X, y, strict=True)):
            folder = path / f"embeddings_{split}" / label
            folder.mkdir(parents=True, exist_ok=True)
            np.save(folder / f"{number}.npy", vector)
    return path


def write_npz(path: Path, **changes: Any) -> Path:
    arrays = {"X_train": X_TRAIN, "y_train": Y_TRAIN, "X_test": X_TEST, "y_test": Y_TEST, **changes}
    file = path / "vectors.npz"
    np.savez(file, **{key: value for key, value in arrays.items() if value is not None})
    return file


def table(**changes: Any) -> pa.Table:
    X = np.concatenate([X_TRAIN, X_TEST])
    columns: dict[str, Any] = {"label": Y_TRAIN + Y_TEST, "split": SPLITS}
    columns |= {name: X[:, number] for number, name in enumerate(("x0", "x1", "x2"))}
    return pa.table({key: value for key, value in (columns | changes).items() if value is not None})


def write_parquet(path: Path, **changes: Any) -> Path:
    parquet.write_table(table(**changes), path / "vectors.parquet")
    return path / "vectors.parquet"


def write_csv(path: Path, **changes: Any) -> Path:
    csv.write_csv(table(**changes), path / "vectors.csv")
    return path / "vectors.csv"


def refusal(path: Path) -> str:
    """The message of the refusal, which must come with a remedy."""
    with pytest.raises(DataError) as caught:
        load_dataset(str(path), seed=0)
    assert caught.value.remedy
    return str(caught.value)


@pytest.mark.parametrize("write", [write_folder, write_npz, write_parquet, write_csv])
def test_every_form_gives_the_same_dataset(tmp_path: Path, write: Callable[[Path], Path]) -> None:
    path = write(tmp_path)
    dataset = load_dataset(str(path), seed=0)
    assert dataset.name == (f"{path.parent.name}/{path.name}" if path.is_dir() else path.name)
    assert dataset.classes == ("cat", "dog")
    assert dataset.X_train.dtype == dataset.X_test.dtype == np.float32
    assert dataset.y_train.dtype == dataset.y_test.dtype == np.int64
    np.testing.assert_array_equal(dataset.X_train, X_TRAIN)
    np.testing.assert_array_equal(dataset.X_test, X_TEST)
    assert dataset.y_train.tolist() == [0, 0, 1, 1]
    assert dataset.y_test.tolist() == [0, 1, 1]
    assert dataset.train_test_duplicates == 1


def test_the_same_content_is_the_same_data_in_every_form(tmp_path: Path) -> None:
    writers = (write_folder, write_npz, write_parquet, write_csv)
    assert len({load_dataset(str(write(tmp_path)), seed=0).sha256 for write in writers}) == 1


def test_data_is_not_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write_npz(tmp_path)
    before = load_dataset(str(file), seed=0)
    monkeypatch.chdir(tmp_path)
    assert load_dataset("./vectors.npz", seed=0).sha256 == before.sha256
    assert load_dataset(str(file.rename("other.npz")), seed=0).sha256 == before.sha256
    write_npz(tmp_path, X_test=X_TEST[[1, 0, 2]], y_test=["dog", "cat", "dog"])
    assert load_dataset(str(file), seed=0).sha256 != before.sha256


def test_where_the_splits_of_a_table_stand_makes_no_difference(tmp_path: Path) -> None:
    file = write_csv(tmp_path)
    before = load_dataset(str(file), seed=0).sha256
    mixed = table().take([0, 4, 1, 5, 2, 3, 6])  # each split in its own order, still
    csv.write_csv(mixed, file)
    assert load_dataset(str(file), seed=0).sha256 == before


def test_the_files_of_a_folder_are_read_in_the_order_of_their_names(tmp_path: Path) -> None:
    cats = write_folder(tmp_path) / "embeddings_train" / "cat"
    before = load_dataset(str(tmp_path), seed=0)
    (cats / "0.npy").rename(cats / "2.npy")
    after = load_dataset(str(tmp_path), seed=0)
    np.testing.assert_array_equal(after.X_train[:2], before.X_train[1::-1])
    assert after.sha256 != before.sha256


def test_digits_is_a_dataset_by_name() -> None:
    assert isinstance(load_dataset("digits", seed=0), Dataset)


def test_classes_are_sorted_as_text_whatever_their_type(tmp_path: Path) -> None:
    file = write_npz(tmp_path, y_train=[10, 10, 9, 9], y_test=[9, 10, 10])
    dataset = load_dataset(str(file), seed=0)
    assert dataset.classes == ("10", "9")
    assert dataset.y_test.tolist() == [1, 0, 0]


def test_the_labels_of_an_archive_may_be_booleans(tmp_path: Path) -> None:
    file = write_npz(tmp_path, y_train=[True, True, False, False], y_test=[False, True, True])
    dataset = load_dataset(str(file), seed=0)
    assert dataset.classes == ("False", "True")
    assert dataset.y_test.tolist() == [0, 1, 1]


def test_a_csv_keeps_labels_as_they_are_written(tmp_path: Path) -> None:
    labels = ["001", "001", "NA", "NA", "001", "NA", "NA"]
    assert load_dataset(str(write_csv(tmp_path, label=labels)), seed=0).classes == ("001", "NA")


def test_a_table_may_mix_the_splits_and_have_labels_of_other_types(tmp_path: Path) -> None:
    file = write_parquet(
        tmp_path,
        label=pa.array([1, 2, 1, 2, 1, 2, 1]).dictionary_encode(),
        split=["test", "train", "train", "test", "train", "train", "train"],
    )
    dataset = load_dataset(str(file), seed=0)
    np.testing.assert_array_equal(dataset.X_test, X_TRAIN[[0, 3]])
    assert dataset.y_train.tolist() == [1, 0, 0, 1, 0]


def test_what_is_no_class_and_no_vector_is_passed_over(tmp_path: Path) -> None:
    write_folder(tmp_path)
    (tmp_path / "embeddings_train" / ".DS_Store").write_text("x")
    (tmp_path / "embeddings_train" / "notes.txt").write_text("x")
    (tmp_path / "embeddings_train" / "cat" / "._0.npy").write_text("no array")
    (tmp_path / "embeddings_train" / "cat" / "0.jpg").write_text("x")
    assert len(load_dataset(str(tmp_path), seed=0).X_train) == 4


# Paths


def test_a_missing_path_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=str(tmp_path / "nowhere")) as caught:
        load_dataset(str(tmp_path / "nowhere"), seed=0)
    assert caught.value.remedy


def test_an_impossible_path_is_a_data_error(tmp_path: Path) -> None:
    assert "too long" in refusal(tmp_path / ("x" * 5000))


def test_an_unknown_extension_is_named(tmp_path: Path) -> None:
    (tmp_path / "vectors.xlsx").write_text("x")
    assert "vectors.xlsx" in refusal(tmp_path / "vectors.xlsx")


def test_a_path_that_cannot_be_stored_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"a\xff")
    folder.mkdir()
    message = refusal(write_npz(folder))
    assert "a\\udcff/vectors.npz: this path is not UTF-8" in message
    message.encode()


def test_data_in_a_folder_whose_name_is_no_text_has_a_name_that_can_be_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / os.fsdecode(b"a\xff")
    write_folder(folder / "data")
    monkeypatch.chdir(folder)
    assert load_dataset("data", seed=0).name == "a\\udcff/data"


@pytest.mark.parametrize("splits", [("train",), ("train", "test")])
def test_a_class_whose_name_is_no_text_is_refused(tmp_path: Path, splits: Sequence[str]) -> None:
    write_folder(tmp_path)
    for split in splits:
        cats = tmp_path / f"embeddings_{split}" / "cat"
        cats.rename(cats.with_name(os.fsdecode(b"\xff")))
    message = refusal(tmp_path)
    assert "\\udcff" in message
    message.encode()


@pytest.mark.parametrize("name", ["pipe.csv", "pipe.npz", "pipe.parquet"])
def test_a_pipe_is_not_opened(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    assert f"{name}: not a plain file" in refusal(tmp_path / name)


def test_a_file_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    link = write_folder(tmp_path) / "embeddings_train" / "cat" / "9.npy"
    link.symlink_to("nowhere")
    assert f"{link}: No such file" in refusal(tmp_path)


def test_a_class_in_two_unicode_forms_is_named_as_that(tmp_path: Path) -> None:
    composed, apart = "r\u00e9el", "re\u0301el"
    y_train, y_test = [composed, composed, "dog", "dog"], [apart, "dog", "dog"]
    message = refusal(write_npz(tmp_path, y_train=y_train, y_test=y_test))
    assert "is written in two Unicode forms (NFC and NFD)" in message


def test_of_many_classes_in_one_split_a_few_are_named(tmp_path: Path) -> None:
    names = [f"c{number:04}" for number in range(2000)]
    X = np.tile(X_TRAIN[0], (2000, 1))
    message = refusal(write_npz(tmp_path, X_train=X, y_train=names))
    assert message.endswith("class only in train: c0000, c0001, c0002, c0003, c0004 and 1995 more")


# Row numbers


@pytest.mark.parametrize(
    ("write", "place"),
    [
        (write_folder, "number 1 of each vector"),
        (write_npz, "X_train[:, 1]"),
        (write_parquet, "column x1"),
        (write_csv, "column x1"),
    ],
)
def test_row_numbers_are_refused_by_their_place(
    tmp_path: Path,
    write: Callable[[Path], Path],
    place: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(30, 3)).astype(np.float32)
    X[:, 1] = rng.permutation(30)
    y = ["cat", "dog"] * 15
    values = {"X_TRAIN": X[:20], "X_TEST": X[20:], "Y_TRAIN": y[:20], "Y_TEST": y[20:]}
    for name, value in {**values, "SPLITS": ["train"] * 20 + ["test"] * 10}.items():
        monkeypatch.setattr(f"{__name__}.{name}", value)
    assert f"{place}: these look like row numbers" in refusal(write(tmp_path))

    X[:, 1] += 0.5  # the way out that the remedy names
    assert load_dataset(str(write(tmp_path)), seed=0).X_train.shape == (20, 3)


# Folders


@pytest.mark.parametrize(
    ("vector", "what"),
    [
        (np.array([1, np.nan, 3]), "number 1: missing, NaN"),
        (np.array([1, 2, np.inf]), "number 2: missing, NaN"),
        (np.array([1e300, 2, 3]), "number 0: missing, NaN"),
        (np.zeros(4), "4 numbers, but"),
        (np.zeros((1, 3)), "shape (1, 3)"),
        (np.float32(1), "shape ()"),
        (np.array(["a", "b", "c"]), "<U1"),
        (np.array([1j, 2, 3]), "complex128"),
    ],
)
def test_a_wrong_vector_is_named(tmp_path: Path, vector: Any, what: str) -> None:
    file = write_folder(tmp_path) / "embeddings_test" / "dog" / "1.npy"
    np.save(file, vector)
    message = refusal(tmp_path)
    assert str(file) in message
    assert what in message


class Trap:
    """Unpickling it fails the test."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return pytest.fail, ("a pickle was loaded",)


@pytest.mark.parametrize("as_array", [True, False])
def test_a_pickle_is_never_loaded(tmp_path: Path, as_array: bool) -> None:
    file = write_folder(tmp_path) / "embeddings_train" / "cat" / "0.npy"
    if as_array:
        np.save(file, np.array([Trap()], dtype=object))
    else:
        file.write_bytes(pickle.dumps(Trap()))
    assert str(file) in refusal(tmp_path)


@pytest.mark.parametrize("size", [0, 3, 40, 130])
def test_a_file_cut_off_is_named(tmp_path: Path, size: int) -> None:
    file = write_folder(tmp_path) / "embeddings_train" / "cat" / "0.npy"
    file.write_bytes(file.read_bytes()[:size])
    assert str(file) in refusal(tmp_path)


def test_an_empty_class_is_named(tmp_path: Path) -> None:
    (write_folder(tmp_path) / "embeddings_train" / "eel").mkdir()
    assert str(tmp_path / "embeddings_train" / "eel") in refusal(tmp_path)


def test_a_folder_without_test_split_is_refused(tmp_path: Path) -> None:
    (write_folder(tmp_path) / "embeddings_test").rename(tmp_path / "elsewhere")
    assert str(tmp_path / "embeddings_test") in refusal(tmp_path)


def test_splits_without_classes_are_refused(tmp_path: Path) -> None:
    for split in ("train", "test"):
        (tmp_path / f"embeddings_{split}").mkdir()
    assert "no vectors in the train split" in refusal(tmp_path)


# Archives


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"X_test": None}, "no X_test in it"),
        ({"X_train": X_TRAIN[0]}, "X_train: it is of shape (3,)"),
        ({"X_train": X_TRAIN.astype(object)}, "X_train: it is of shape (4, 3) and object"),
        ({"X_train": X_TRAIN.astype(str)}, "X_train: it is of shape (4, 3) and <U"),
        ({"X_test": np.full((3, 3), np.nan)}, "X_test[0, 0]: missing, NaN"),
        ({"X_test": X_TEST[:, :2]}, "3 numbers a vector in train, 2 in test"),
        ({"X_test": X_TEST[:0], "y_test": np.array([], dtype=str)}, "no vectors in the test"),
        ({"y_test": ["cat", "dog"]}, "y_test: it is of shape (2,)"),
        ({"y_test": [0.0, 1.0, 1.0]}, "float64, not 3 labels"),
        ({"y_test": np.array(Y_TEST, dtype=object)}, "y_test: it is of shape (3,) and object"),
        ({"y_test": ["cat", "dog", "eel"]}, "class only in test: eel"),
        ({"y_test": ["cat", "cat", "cat"]}, "class only in train: dog"),
        ({"y_train": ["cat"] * 4, "y_test": ["cat"] * 3}, "only one class, cat"),
        ({"y_train": ["", "", "b", "b"], "y_test": ["", "b", "b"]}, "label is blank"),
    ],
)
def test_a_wrong_archive_is_named(tmp_path: Path, changes: dict[str, Any], what: str) -> None:
    file = write_npz(tmp_path, **changes)
    message = refusal(file)
    assert str(file) in message
    assert what in message


def test_an_archive_cut_off_or_damaged_is_named(tmp_path: Path) -> None:
    file = write_npz(tmp_path)
    whole = file.read_bytes()
    file.write_bytes(whole[:100])
    assert str(file) in refusal(file)
    file.write_bytes(whole.replace(X_TRAIN.tobytes(), X_TRAIN[::-1].tobytes()))
    assert "X_train: no array, or a damaged one: Bad CRC" in refusal(file)


def test_a_plain_array_named_npz_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", X_TRAIN)
    (tmp_path / "one.npy").rename(tmp_path / "one.npz")
    assert "not an .npz archive" in refusal(tmp_path / "one.npz")


# Tables


@pytest.mark.parametrize("write", [write_parquet, write_csv])
@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"label": None}, "no column named label"),
        ({"split": ["train"] * 6 + ["half"]}, "data row 7: split is 'half'"),
        ({"split": ["train"] * 7}, "no vectors in the test split"),
        ({"x1": list("abc4567")}, "data row 1, column x1: the text 'a', not a number or a list"),
        ({"x1": list("abcdefg"), "x2": list("abcdefg")}, "2 columns are not numeric: 'x1', 'x2'"),
        ({"x1": [0.5, None, 1, 1, 1, 1, 1]}, "data row 2, column x1: missing"),
        ({"x2": [0, 0, 0, 0, 0, 0, np.inf]}, "data row 7, column x2: missing"),
        ({"": list(range(7))}, "looks like a row index"),
        ({"__index_level_0__": list(range(7))}, "looks like a row index"),
        ({"x0": None, "x1": None, "x2": None}, "no vectors in the train split"),
    ],
)
def test_a_wrong_table_is_named(
    tmp_path: Path, write: Callable[..., Path], changes: dict[str, Any], what: str
) -> None:
    file = write(tmp_path, **changes)
    message = refusal(file)
    assert str(file) in message
    assert what in message


def test_labels_of_a_parquet_file_are_text_or_whole_numbers(tmp_path: Path) -> None:
    assert "label is double" in refusal(write_parquet(tmp_path, label=[0.0, 1, 0, 1, 0, 1, 0]))
    file = write_parquet(tmp_path, label=["a", "b", None, "b", "a", "b", "a"])
    assert "data row 3: no label" in refusal(file)


@pytest.mark.parametrize("name", ["vectors.csv", "vectors.parquet"])
@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00,\x00\n1", b"a,b\n1\n"])
def test_an_unreadable_table_is_named(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    assert str(tmp_path / name) in refusal(tmp_path / name)


def test_a_column_that_occurs_twice_is_named(tmp_path: Path) -> None:
    file = tmp_path / "twice.csv"
    file.write_text("label,split,x,x\na,train,1,2\n")
    assert "column x occurs twice" in refusal(file)
