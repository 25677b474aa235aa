"""Archives of arrays: what is damaged, or too large, is named before memory is taken for it."""

from __future__ import annotations

import io
import random
import tracemalloc
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.errors import DataError
from harness.workload import reading
from harness.workload.arrays import read_npz

X = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
Y = np.array(["a", "b", "a", "b"])
ARRAYS: Mapping[str, Any] = {"X_train": X, "y_train": Y, "X_test": X, "y_test": Y}


def npy(array: Any, version: tuple[int, int] | None = None) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, np.asarray(array), version)
    return stream.getvalue()


def archive(
    folder: Path, packing: int = zipfile.ZIP_DEFLATED, suffix: str = ".npy", **changes: bytes
) -> Path:
    """An .npz file with the bytes of members changed."""
    path = folder / "data.npz"
    with zipfile.ZipFile(path, "w", packing) as file:
        for key, array in ARRAYS.items():
            file.writestr(key + suffix, changes.get(key, npy(array)))
    return path


def headed(shape: str, array: Any = X, **changes: str) -> bytes:
    """An array whose header says another shape, or has other words in place of its own."""
    content = npy(array)
    start = content.index(b"{")
    end = content.index(b"\n") + 1
    header = content[start:end].decode().rstrip()
    for old, new in {str(np.shape(array)): shape, **changes}.items():
        assert old in header
        header = header.replace(old, new)
    return content[:start] + header.ljust(end - start - 1).encode() + b"\n" + content[end:]


def refusal(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        read_npz(path)
    assert caught.value.remedy
    assert str(path) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
@pytest.mark.parametrize("packing", [zipfile.ZIP_STORED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
@pytest.mark.parametrize("suffix", [".npy", ""])
def test_all_that_numpy_reads_is_read(
    tmp_path: Path, version: tuple[int, int], packing: int, suffix: str
) -> None:
    fortran = npy(np.asfortranarray(X.astype(">f8")), version)
    read = read_npz(archive(tmp_path, packing, suffix, X_train=fortran))
    train, test = read.train, read.test
    np.testing.assert_array_equal(train.X, X)
    np.testing.assert_array_equal(test.X, X)
    assert train.labels == test.labels == ["a", "b", "a", "b"]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no array",
        b"\x80\x04.",
        npy(X)[:-1],
        headed("((((("),
        headed("(-1, 3)"),
        headed("(4.0, 3)"),
        headed("(True, 12)"),
        headed("(4, 3)", descr="dexcr"),
        headed("(4, 3)", **{"<f4": "<q9"}),
        npy(X).replace(b"NUMPY\x01", b"NUMPY\x09"),
    ],
)
def test_a_damaged_array_is_named(tmp_path: Path, content: bytes) -> None:
    assert "X_test: " in refusal(archive(tmp_path, X_test=content))


@pytest.mark.parametrize("shape", ["(99999999, 99)", "(4, 9999999999)", "(4294967296, 4294967296)"])
def test_a_shape_that_is_not_there_takes_no_memory(tmp_path: Path, shape: str) -> None:
    path = archive(tmp_path, X_train=headed(shape))
    tracemalloc.start()
    message = refusal(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert "bytes, and 48 are there" in message
    assert peak < 2**20


def test_arrays_without_content_make_no_labels(tmp_path: Path) -> None:
    nothing = headed("(999999999999, 0)", np.empty((0, 0), dtype=np.float32))
    assert "not 999999999999 labels" in refusal(archive(tmp_path, X_train=nothing))


def test_an_archive_that_unpacks_to_much_more_is_refused_unread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = archive(tmp_path, X_train=npy(np.zeros((4, 100_000))))
    assert read_npz(path).train.X.shape == (4, 100_000)
    monkeypatch.setattr(reading, "_ALWAYS_READ_BYTES", 2**20)
    tracemalloc.start()
    assert "become 3.1 MiB of data" in refusal(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**20


def test_other_members_are_not_looked_at(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    np.savez(path, **ARRAYS, names=np.array([None], dtype=object))
    np.testing.assert_array_equal(read_npz(path).train.X, X)


def test_a_label_that_is_no_text_is_named(tmp_path: Path) -> None:
    no_character = npy(Y)[:-4] + (0x110000).to_bytes(4, "little")
    assert "y_test: a label holds" in refusal(archive(tmp_path, y_test=no_character))


@pytest.mark.parametrize(
    ("at", "value", "what"), [(8, 1, "password"), (10, 77, "compression method")]
)
def test_a_member_that_cannot_be_opened_is_named(
    tmp_path: Path, at: int, value: int, what: str
) -> None:
    """`at`: where in its entry of the directory the flags, or the compression, are."""
    path = archive(tmp_path, zipfile.ZIP_STORED)
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + at] = value
    if at == 8:
        content[content.index(b"PK\x03\x04") + 6] = value
    path.write_bytes(content)
    assert "X_train: " in (message := refusal(path))
    assert what in message


def test_whatever_is_damaged_is_a_data_error(tmp_path: Path) -> None:
    path = archive(tmp_path)
    whole = path.read_bytes()
    rng = random.Random(0)
    for _ in range(200):
        content = bytearray(whole)
        for _ in range(rng.choice([1, 4])):
            # Half of them in the directory at the end, where the sizes are.
            first = rng.choice([0, len(content) - 300])
            content[rng.randrange(first, len(content))] = rng.randrange(256)
        path.write_bytes(content)
        try:
            read_npz(path)
        except DataError as error:
            assert str(path) in str(error)


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (npy(np.array([f"train/a/{row}.png" for row in range(4)])), 4),
        (npy(np.array(["train/a/0.png"])), 0),  # not one for each row
        (npy(np.zeros((4, 2, 2, 3), np.uint8)), 0),  # the images themselves
        (npy(np.array(["x" * 5000] * 4)), 0),
        (npy(np.array(["ab"] * 4)).replace(b"b\0\0\0", b"b\0\0\x7f"), 0),
        (b"no array", 0),
    ],
)
def test_the_names_of_images_are_read_where_they_are_names(
    tmp_path: Path, names: bytes, found: int
) -> None:
    path = archive(tmp_path)
    with zipfile.ZipFile(path, "a") as file:
        file.writestr("images_train.npy", names)
    read = read_npz(path)
    assert (len(read.train.images), len(read.test.images)) == (found, 0)
    assert read.train.X.tolist() == X.tolist()
