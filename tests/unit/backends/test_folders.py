"""What outlives a worker's temporary folder."""

from __future__ import annotations

import getpass
import os
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
        header = folder / "torchinductor_me" / "precompiled_headers" / "header.h"
        assert header.exists() is (worker == "second")
        header.touch()
        shutil.rmtree(folder)
    assert (tmp_path / "cache" / "llm-harness" / "torch-headers" / "header.h").exists()


def no_home(path: Path) -> Path:
    raise RuntimeError("Could not determine home directory.")


def no_name() -> str:
    raise KeyError("getpwuid(): uid not found: 54321")


@pytest.mark.parametrize("lacks", ["home", "name", "access"])
def test_without_a_cache_there_is_no_link_and_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lacks: str
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    if lacks == "home":
        monkeypatch.setattr(Path, "expanduser", no_home)
    elif lacks == "name":
        monkeypatch.setattr(getpass, "getuser", no_name)
    else:
        monkeypatch.setattr(os, "access", lambda path, mode: False)
    keep_torch_headers()
    assert not list(tmp_path.glob("torchinductor_*"))


def test_a_name_with_signs_of_paths_is_written_as_torch_writes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(getpass, "getuser", lambda: "CORP\\alice")
    keep_torch_headers()
    assert (tmp_path / "torchinductor_CORP_alice" / "precompiled_headers").is_symlink()
