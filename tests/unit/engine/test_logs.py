from __future__ import annotations

from pathlib import Path

import pytest

from harness.engine.logs import MOST_BYTES, log_files, open_log
from harness.errors import EngineError


def test_a_log_is_added_to(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "mock.log"
    for word in (b"one", b"two"):
        with open_log(path) as log:
            log.write(word)
    assert path.read_bytes() == b"onetwo"


def test_a_large_log_becomes_the_earlier_one_and_only_two_are_left(tmp_path: Path) -> None:
    path = tmp_path / "mock.log"
    for number in range(5):
        with open_log(path) as log:
            log.write(str(number).encode() * (MOST_BYTES + 1))
    assert {one.name for one in tmp_path.iterdir()} == {"mock.log", "mock.log.1"}
    assert path.read_bytes()[:1] == b"4"
    assert (tmp_path / "mock.log.1").read_bytes()[:1] == b"3"
    assert sum(one.stat().st_size for one in tmp_path.iterdir()) == 2 * (MOST_BYTES + 1)


def test_a_log_that_cannot_be_written_is_one_error(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("in the way")
    with pytest.raises(EngineError, match=r"the engine's log .*mock.log cannot be written") as no:
        open_log(tmp_path / "logs" / "mock.log")
    assert "you may write to" in no.value.remedy


def test_a_full_disk_says_how_to_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(EngineError, match="No space left on device") as no:
        open_log(tmp_path / "mock.log")
    assert "--resume" in no.value.remedy


def test_the_files_of_an_entry_are_those_that_are_written(tmp_path: Path) -> None:
    log, earlier = log_files(tmp_path, "mock")
    log.write_bytes(bytes(MOST_BYTES + 1))
    open_log(log).close()
    assert sorted(tmp_path.iterdir()) == [log, earlier]
