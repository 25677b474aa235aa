"""What outlives a worker's temporary folder."""

from __future__ import annotations

import getpass
import shutil
import tempfile
from pathlib import Path

import pytest

from backends.folders import keep_torch_headers


def test_headers_that_torch_compiles_outlive_the_temporary_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(getpass, "getuser", lambda: "me")
    for worker in ("first", "second"):
        folder = tmp_path / worker
        folder.mkdir()
        monkeypatch.setattr(tempfile, "tempdir", str(folder))
        keep_torch_headers()
        keep_torch_headers()
        header = folder / "torchinductor_me" / "header.h"
        assert header.exists() is (worker == "second")
        header.touch()
        shutil.rmtree(folder)
    assert (tmp_path / "cache" / "llm-harness" / "torch" / "header.h").exists()
