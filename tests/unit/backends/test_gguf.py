from __future__ import annotations

import importlib.util
import struct
from pathlib import Path

import pytest

from backends.api import BackendError
from backends.gguf import read_metadata


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """A file by the format's own library."""
    if importlib.util.find_spec("gguf") is None:
        pytest.skip("pip install 'llm-harness[hf]'")
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


@pytest.mark.parametrize("kept", [0, 3, 20, 60, -1])
def test_a_part_of_a_file_is_refused(written: Path, kept: int) -> None:
    written.write_bytes(written.read_bytes()[:kept])
    with pytest.raises(BackendError, match=r"small\.gguf is not a whole GGUF file"):
        read_metadata(written)


def test_another_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "notes.gguf"
    path.write_text("These are notes, and they are longer than the head of a GGUF file.")
    with pytest.raises(BackendError, match=r"notes\.gguf is not a whole GGUF file"):
        read_metadata(path)


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
