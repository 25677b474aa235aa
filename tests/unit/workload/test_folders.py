"""Folders of vectors: each vector is read, or the folder is refused with the count."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from harness.errors import DataError
from harness.workload.folders import read_folder

VECTORS = np.random.default_rng(0).normal(size=(24, 4)).astype(np.float32)
MAC = b"\x00\x05\x16\x07"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes of 6 vectors each, in both splits."""
    root = tmp_path / "data"
    vectors = iter(VECTORS)
    for split in ("train", "test"):
        for label in ("cat", "dog"):
            place = root / f"embeddings_{split}" / label
            place.mkdir(parents=True)
            for number in range(6):
                np.save(place / f"{number}.npy", next(vectors))
    return root


def refusal(folder: Path) -> str:
    with pytest.raises(DataError) as caught:
        read_folder(folder)
    assert caught.value.remedy
    return str(caught.value)


def move_half(folder: Path, to: str) -> None:
    cats = folder / "embeddings_train" / "cat"
    for number in range(3, 6):
        place = cats / to.format(number)
        place.parent.mkdir(parents=True, exist_ok=True)
        (cats / f"{number}.npy").rename(place)


@pytest.mark.parametrize("to", ["{}.NPY", "{}.Npy"])
def test_a_suffix_in_capitals_is_read(folder: Path, to: str) -> None:
    move_half(folder, to)
    read = read_folder(folder)
    train = read.train
    np.testing.assert_array_equal(train.X, VECTORS[:12])


@pytest.mark.parametrize(
    "to",
    [
        "more/{}.npy",
        "more/still/{}.npy",
        ".more/{}.npy",
        "../{}.npy",
        "../.hidden/{}.npy",
        ".{}.npy",
        "._{}.npy",
        "{}.npy.bak",
        "{}.npy.gz",
        "{}",
        "{}.dat",
        "{}.npz",
        "{}.pt",
        "../../embeddings_train2/cat/{}.npy",
        "../../embeddings_train (1)/{}.npy",
        "../../Embeddings_Train/cat/{}.npy",
    ],
)
def test_vectors_where_none_is_read_are_counted(folder: Path, to: str) -> None:
    move_half(folder, to)
    left = os.path.normpath(folder / "embeddings_train" / "cat" / to.format(3))
    message = refusal(folder)
    assert "3 of 12 files of vectors would not be read" in message
    assert left in message


def test_in_a_linked_folder_they_are_counted_too(folder: Path) -> None:
    move_half(folder, "more/{}.npy")
    cats = folder / "embeddings_train" / "cat"
    cats.rename(folder / "elsewhere")
    cats.symlink_to("../elsewhere")
    assert "3 of 12" in refusal(folder)


def lay_other_things(folder: Path) -> None:
    cats = folder / "embeddings_train" / "cat"
    (cats / "0.jpg").write_text("x")
    (cats / "._0.npy").write_bytes(MAC)
    (cats / "thumbnails").mkdir()
    (cats / "loop").symlink_to("..")
    (cats / "nowhere.jpg").symlink_to("nowhere")
    os.mkfifo(cats / "pipe")
    (folder / "embeddings_train" / ".DS_Store").write_text("x")
    (folder / "embeddings_train" / "notes.txt").write_text("x")
    (folder / "embeddings_val" / "cat").mkdir(parents=True)
    np.save(folder / "embeddings_val" / "cat" / "0.npy", VECTORS[0])


def link_a_class(folder: Path) -> None:
    (folder / "embeddings_train" / "cat").rename(folder / "elsewhere")
    (folder / "embeddings_train" / "cat").symlink_to("../elsewhere")


@pytest.mark.parametrize("change", [lay_other_things, link_a_class])
def test_what_is_no_vector_changes_nothing(folder: Path, change: Callable[[Path], None]) -> None:
    change(folder)
    read = read_folder(folder)
    train, test = read.train, read.test
    np.testing.assert_array_equal(train.X, VECTORS[:12])
    np.testing.assert_array_equal(test.X, VECTORS[12:])
    assert train.labels == test.labels == ["cat"] * 6 + ["dog"] * 6


@pytest.mark.parametrize(
    "put",
    [
        os.mkfifo,
        Path.mkdir,
        lambda path: path.symlink_to("/dev/zero"),
    ],
    ids=["pipe", "folder", "device"],
)
def test_what_is_no_file_is_not_opened(folder: Path, put: Callable[[Path], None]) -> None:
    path = folder / "embeddings_train" / "cat" / "9.npy"
    put(path)
    message = refusal(folder)
    assert f"{path}: not a plain file" in message


@pytest.mark.parametrize("name", ["more", "loop"])
def test_a_class_without_vectors_is_named(folder: Path, name: str) -> None:
    place = folder / "embeddings_train" / name
    if name == "loop":
        place.symlink_to(".")
    else:
        place.mkdir()
    assert f"{place}: a class without .npy files" in refusal(folder)


def test_a_shape_that_is_not_there_takes_no_memory(folder: Path) -> None:
    path = folder / "embeddings_train" / "cat" / "0.npy"
    content = path.read_bytes()
    path.write_bytes(content.replace(b"(4,), }          ", b"(9999999999,), } "))
    assert f"{path}: of shape (9999999999,) and float32: that takes 39,999,999,996" in refusal(
        folder
    )


def test_a_file_larger_than_memory_is_not_read(folder: Path) -> None:
    path = folder / "embeddings_train" / "cat" / "0.npy"
    os.truncate(path, 10**12)  # takes no room on the disk
    assert "of memory, and" in refusal(folder)
