"""A worker has a temporary folder of its own, and nothing of that is left."""

from __future__ import annotations

import os
import sys
import tempfile
import textwrap
from pathlib import Path

import pytest

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
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    monkeypatch.setattr("harness.engine.scratch._LONGEST_PARENT", 1000)
    with pytest.raises(EngineError, match="no folder can be made") as caught:
        make_scratch()
    assert "TMPDIR" in caught.value.remedy
