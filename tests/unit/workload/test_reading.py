"""What all readers share: messages that can be printed, and limits."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from harness.errors import DataError
from harness.workload.reading import check_plain_file, check_room, fault, is_storable, printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, größer", "plain, größer"),
        ("a\udcff", "a\\udcff"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("\ufefflabel", "\\ufefflabel"),
        ("two\nlines", "two\\nlines"),
    ],
)
def test_a_fault_can_be_printed(text: str, shown: str) -> None:
    assert printable(text) == shown
    assert str(fault(Path("x"), text, "Help.")).encode() == f"x: {shown}".encode()


def test_what_is_storable() -> None:
    assert is_storable("größer?\n")
    assert not is_storable("a\udcff")


def test_a_pipe_a_device_and_a_folder_are_no_plain_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(os.devnull)
    for path in (tmp_path / "pipe", tmp_path / "link", tmp_path):
        with pytest.raises(DataError, match=r"not a plain file") as caught:
            check_plain_file(path)
        assert str(path) in str(caught.value)


def test_what_memory_cannot_hold_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    free = SimpleNamespace(available=400 * 2**20)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: free)
    check_room("x", needed=100 * 2**20, packed=100 * 2**20)
    with pytest.raises(
        DataError, match=r"x: 101\.0 MiB of data take 404\.0 MiB of memory, and 400"
    ):
        check_room("x", needed=101 * 2**20, packed=101 * 2**20)


def test_what_is_packed_more_than_numbers_can_be_is_refused() -> None:
    check_room("x", needed=2**28, packed=1)
    check_room("x", needed=2**28 + 1, packed=2**28 // 100 + 1)
    with pytest.raises(DataError, match="which no honest data do"):
        check_room("x", needed=2**28 + 1, packed=1)
