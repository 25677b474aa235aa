"""A worker has a temporary folder of its own, and nothing of that is left."""

from __future__ import annotations

import os
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.engine.process import ProcessTransport
from harness.engine.scratch import make_scratch, remove_scratch
from harness.engine.session import check_backend
from harness.errors import EngineError

LITTERING = """
    import os, signal, tempfile
    from pathlib import Path
    from backends.api import Availability

    def check():
        folder = Path(tempfile.gettempdir())
        (folder / "socket").touch()
        (folder / "more").mkdir()
        print(folder, flush=True)
        if (Path(__file__).parent / "crash").exists():
            os.kill(0, signal.SIGKILL)
        return Availability(True, version="1")
"""


@pytest.mark.parametrize("crashes", [False, True])
def test_what_an_engine_leaves_there_goes_with_its_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, crashes: bool
) -> None:
    (tmp_path / "littering.py").write_text(textwrap.dedent(LITTERING), encoding="utf-8")
    if crashes:
        (tmp_path / "crash").touch()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    log = tmp_path / "log"
    found = check_backend("littering", 60.0, log, sys.executable)
    assert found.available is not crashes
    folder = Path(log.read_text().split()[0])
    assert folder.name.startswith("lh-")
    assert not folder.exists()


def test_paths_of_sockets_in_it_are_not_too_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path / ("deep" * 20)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    folder = make_scratch()
    remove_scratch(folder)
    assert len(str(folder / "012e1472-9a2a-4643-9b4b-b756550b2714")) <= 103
    short = Path("/tmp")
    monkeypatch.setattr(tempfile, "tempdir", str(short))
    folder = make_scratch()
    remove_scratch(folder)
    assert folder.parent == short


def test_without_a_place_for_it_there_is_one_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: [str(tmp_path / "none")])
    with pytest.raises(EngineError, match="no temporary folder can be made") as caught:
        make_scratch()
    assert "TMPDIR" in caught.value.remedy


@pytest.mark.parametrize(("length", "fits"), [(54, True), (55, False)])
def test_the_longest_parent_is_just_short_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, length: int, fits: bool
) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        parent = Path(short) / ("x" * (length - len(short) - 1))
        parent.mkdir()
        monkeypatch.setattr(tempfile, "tempdir", str(parent))
        folder = make_scratch()
        remove_scratch(folder)
        assert (folder.parent == parent) is fits
        assert len(str(folder / "012e1472-9a2a-4643-9b4b-b756550b2714")) <= 103


@pytest.fixture
def parent(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A temporary folder that has a short path, for folders of workers."""
    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        monkeypatch.setattr(tempfile, "tempdir", short)
        yield Path(short)


def test_without_a_guard_nothing_of_the_worker_is_left(
    parent: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.engine.guard._WAIT", "exit 3")
    with pytest.raises(EngineError, match="did not start"):
        ProcessTransport("backends.mock", 60.0, tmp_path / "log")
    assert not list(parent.iterdir())


def test_an_interrupt_while_it_is_ended_leaves_the_rest_to_the_next_end(
    parent: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = ProcessTransport("backends.mock", 60.0, tmp_path / "log")

    def interrupted(folder: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("harness.engine.process.remove_scratch", interrupted)
        worker.kill()
    assert len(list(parent.iterdir())) == 1
    worker.kill()
    assert not list(parent.iterdir())
    worker.kill()
