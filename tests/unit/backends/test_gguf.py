from __future__ import annotations

import importlib.util
import struct
import tracemalloc
from pathlib import Path

import pytest

from backends.api import BackendError
from backends.gguf import (
    check_file,
    check_model,
    parts_of,
    read_beginning,
    read_head,
    read_metadata,
    tensor_sizes,
)
from tests.unit.backends.gguf_head import ARRAY, STRING, head, text


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """A file by the format's own library."""
    if importlib.util.find_spec("gguf") is None:
        pytest.skip("pip install 'llm-backend-harness[hf]'")
    from gguf import GGUFWriter

    path = tmp_path / "small.gguf"
    writer = GGUFWriter(path, "llama")
    writer.add_array("before", ["a", "bc", "é"])
    writer.add_array("numbers", [1, 2, 3])
    writer.add_uint32("count", 7)
    writer.add_bool("flag", False)
    writer.add_float32("half", 0.5)
    writer.add_string("text", "日本")
    writer.add_uint64("large", 2**40)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return path


def test_single_values_are_read_and_arrays_passed_over(written: Path) -> None:
    assert read_metadata(written) == {
        "general.architecture": "llama",
        "before": None,
        "numbers": None,
        "count": 7,
        "flag": False,
        "half": 0.5,
        "text": "日本",
        "large": 2**40,
    }


def test_of_a_beginning_the_vocabulary_and_what_is_behind_it_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "small.gguf"
    few = struct.pack("<IIQ", ARRAY, STRING, 1) + text("en")
    many = struct.pack("<IIQ", ARRAY, STRING, 2**40)
    path.write_bytes(head("llama", ("general.languages", few), ("count", struct.pack("<IB", 7, 1))))
    assert read_beginning(path, "it") == {
        "general.architecture": "llama",
        "general.languages": None,
        "count": True,
    }
    for hostile in (
        many,
        struct.pack("<IIQ", ARRAY, ARRAY, 1),
        struct.pack("<IQ", STRING, 2**60),
        struct.pack("<I", 99),
    ):
        path.write_bytes(head("clip", ("tokenizer", hostile)) + bytes(10**6))
        assert read_beginning(path, "it") == {"general.architecture": "clip"}


@pytest.mark.parametrize("length", [4, 20, 60, -1])
def test_a_part_of_a_file_is_refused(written: Path, length: int) -> None:
    written.write_bytes(written.read_bytes()[:length])
    with pytest.raises(BackendError, match=r"small\.gguf is not a whole GGUF file"):
        read_metadata(written)


def test_tensors_are_counted(tmp_path: Path) -> None:
    if importlib.util.find_spec("gguf") is None:
        pytest.skip("pip install 'llm-backend-harness[hf]'")
    from tests.unit.backends.tiny_gguf import random_tensors, write

    sizes = {name: values.size for name, values in random_tensors().items()}
    assert tensor_sizes(write(tmp_path / "tiny.gguf")) == sizes


def test_each_part_of_a_model_holds_its_own_tensors(tmp_path: Path) -> None:
    if importlib.util.find_spec("gguf") is None:
        pytest.skip("pip install 'llm-backend-harness[hf]'")
    from tests.unit.backends.tiny_gguf import random_tensors, write_parts

    sizes = {name: values.size for name, values in random_tensors().items()}
    assert read_head(write_parts(tmp_path)[0]).tensors == sizes


@pytest.mark.parametrize(("size", "is_refused"), [(16 * 2**20, False), (2**60, True)])
def test_more_numbers_than_the_file_can_hold_are_refused(
    tmp_path: Path, size: int, is_refused: bool
) -> None:
    """Memory would be predicted by them."""
    path = tmp_path / "odd.gguf"
    tensor = text("a") + struct.pack("<IQIQ", 1, size, 0, 0)
    path.write_bytes(struct.pack("<4sIQQ", b"GGUF", 3, 1, 0) + tensor + bytes(2**20))
    if not is_refused:
        assert read_head(path).tensors == {"a": size}
        return
    with pytest.raises(BackendError, match=r"odd\.gguf .* speaks of 1152921504606846976 numbers"):
        read_head(path)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"These are notes, longer than the head of a GGUF file.", "does not begin with GGUF"),
        (b"", "empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:aa", "a Git LFS pointer"),
        (b"<!DOCTYPE html><html><body>Sign in</body></html>", "a web page"),
        (b"\n  <html lang='en'>", "a web page"),
        (b'{"error": "Repository not found"}', "JSON"),
        (b"\x40\x00\x00\x00\x00\x00\x00\x00{\"__metadata__\": {}}", "a safetensors file"),
        (b"tjgg\x03\x00\x00\x00", "the older format GGML"),
        (b"FUGG\x03\x00\x00\x00", "the other byte order"),
        (b"PK\x03\x04 and more", "an archive"),
        (b"\x80\x04\x95 and more", "a pickle"),
        (bytes(300), "filled with zeros"),
    ],
)  # fmt: skip
def test_another_file_is_refused_by_what_it_is(tmp_path: Path, content: bytes, what: str) -> None:
    path = tmp_path / "notes.gguf"
    path.write_bytes(content)
    for read in (lambda path: check_file(path, "mine"), lambda path: read_metadata(path, "mine")):
        with pytest.raises(BackendError, match=f"^mine is no GGUF file: it .*{what}") as caught:
            read(path)
        assert caught.value.remedy


def test_a_model_in_several_files_is_all_of_them(tmp_path: Path) -> None:
    names = [f"big-q4-{i:05}-of-00003.gguf" for i in (1, 2, 3)]
    paths = [tmp_path / name for name in names]
    for path in paths:
        path.touch()
    assert parts_of(paths[0]) == paths
    for path in (tmp_path / "big.gguf", tmp_path / "big-1-of-3.gguf", tmp_path / "sha256-0a"):
        assert parts_of(path) == [path]
    with pytest.raises(BackendError, match=r"is one of 3 files .* and not the first"):
        parts_of(paths[1])
    paths[2].unlink()
    with pytest.raises(BackendError, match=f"{names[2]} is not beside it"):
        parts_of(paths[0])
    with pytest.raises(BackendError, match="not the first"):
        parts_of(tmp_path / "big-00000-of-00000.gguf")


@pytest.mark.parametrize(
    "metadata",
    [
        {"general.architecture": "bert"},
        {"general.architecture": "nomic-bert-moe"},
        {"general.architecture": "t5encoder"},
        {"general.architecture": "llama", "llama.attention.causal": False},
        {"general.architecture": "qwen3", "qwen3.pooling_type": 3},
    ],
)
def test_a_model_that_writes_no_text_is_refused(metadata: dict[str, object]) -> None:
    with pytest.raises(BackendError, match="mine is not a model that writes text"):
        check_model(metadata, "mine")
    check_model({"general.architecture": "llama", "llama.pooling_type": 0}, "mine")


@pytest.mark.parametrize(
    "field",
    [
        struct.pack("<Q", 2**63),  # a key of a length that no file has
        struct.pack("<Q", 2**62),
        struct.pack("<Q1sIIQ", 1, b"k", 9, 4, 2**63),  # an array of as many numbers
        struct.pack("<Q1sI", 1, b"k", 9) + struct.pack("<IQ", 9, 1) * 3000,  # arrays within arrays
        struct.pack("<Q1sI", 1, b"k", 77),  # a kind of value that there is not
    ],
)
def test_a_head_that_cannot_be_is_refused(tmp_path: Path, field: bytes) -> None:
    path = tmp_path / "odd.gguf"
    path.write_bytes(struct.pack("<4sIQQ", b"GGUF", 3, 0, 1) + field)
    with pytest.raises(BackendError, match=r"odd\.gguf is not a whole GGUF file"):
        read_metadata(path)


@pytest.mark.parametrize(
    ("tensors", "fields", "body"),
    [
        (0, 1, struct.pack("<Q", 2**25)),  # a key as long as the rest of the file
        (1, 0, struct.pack("<Q1sI", 1, b"t", 2**22)),  # a tensor of millions of dimensions
    ],
)
def test_a_head_does_not_make_us_read_the_weights(
    tmp_path: Path, tensors: int, fields: int, body: bytes
) -> None:
    """A length in a head may point behind gigabytes of weights."""
    path = tmp_path / "odd.gguf"
    with path.open("wb") as file:
        file.write(struct.pack("<4sIQQ", b"GGUF", 3, tensors, fields) + body)
        file.truncate(2**27)  # sparse: takes no room on a disk
    tracemalloc.start()
    try:
        with pytest.raises(BackendError, match=r"odd\.gguf is not a whole GGUF file"):
            read_metadata(path)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()
