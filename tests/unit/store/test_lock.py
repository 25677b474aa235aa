from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from harness.errors import StoreError
from harness.store.lock import prompting

HOLDER = """
import sys
from pathlib import Path
from harness.store.lock import prompting

with prompting(Path(sys.argv[1]), sys.argv[2]):
    print("held", flush=True)
    sys.stdin.readline()
"""


def hold(folder: Path, run_id: str) -> subprocess.Popen[str]:
    """A process that holds the lock of a run until it is given a line."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder), run_id],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    return holder


def test_a_second_process_is_told_which_one_prompts(tmp_path: Path) -> None:
    holder = hold(tmp_path, "a")
    with (
        pytest.raises(StoreError, match=f"run a is in use by process {holder.pid}") as no,
        prompting(tmp_path, "a"),
    ):
        pass
    assert "Wait until it has ended" in no.value.remedy
    with prompting(tmp_path, "another"):
        pass
    holder.communicate("go\n")
    with prompting(tmp_path, "a"):
        assert [path.name for path in tmp_path.iterdir()] == ["a.lock"]
    assert list(tmp_path.iterdir()) == []


def test_a_lock_ends_with_its_process(tmp_path: Path) -> None:
    holder = hold(tmp_path, "a")
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    with prompting(tmp_path, "a"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_was_removed_meanwhile_is_no_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its holder has removed it between our opening it and our locking it."""
    path, lock, waits = tmp_path / "a.lock", fcntl.flock, iter([True])

    def slow(file: int, how: int) -> None:
        if next(waits, False):
            path.unlink()
        lock(file, how)

    monkeypatch.setattr(fcntl, "flock", slow)
    with prompting(tmp_path, "a"):
        assert path.read_text() == str(os.getpid())


def test_whoever_cannot_be_named_is_another_process(tmp_path: Path) -> None:
    holder = hold(tmp_path, "a")
    (tmp_path / "a.lock").write_text("")
    with pytest.raises(StoreError, match="by another process"), prompting(tmp_path, "a"):
        pass
    holder.communicate("go\n")


def test_where_nothing_can_be_locked_the_error_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(StoreError, match="No locks available"), prompting(tmp_path, "a"):
        pass


def test_an_id_that_is_none_leads_out_of_no_folder(tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    with prompting(tmp_path / "results", "../../a"):
        assert [path.parent.name for path in tmp_path.rglob("*.lock")] == ["results"]
