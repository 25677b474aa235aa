"""What is removed from the user's cache, and what is not."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from backends.in_use import hold, mark_of
from harness.engine import models
from harness.engine.converted import converted_models
from harness.engine.models import KnownModel, Part, models_cache

MADE, TOKENIZER = f"safetensors-{'a' * 16}", f"tokenizer-{'a' * 16}-3"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert models_cache().is_relative_to(tmp_path)
    return models_cache() / "small"


def make(folder: Path, size: int = 9) -> Path:
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(bytes(size))
    (folder / "manifest.json").write_text("{}")
    return folder


def test_without_a_cache_there_is_nothing(cache: Path) -> None:
    assert converted_models() == []


def test_what_was_made_is_listed_and_removed(cache: Path) -> None:
    make(cache / MADE, 100)
    make(cache / TOKENIZER)
    (cache / f".{MADE}").mkdir()  # what a killed conversion left
    (cache / f"{MADE}.lock").touch()
    every = converted_models()
    assert [one.kind for one in every] == ["safetensors", "tokenizer", "unfinished"]
    assert (every[0].model, every[0].size_bytes) == ("small", 102)
    assert all(one.remove() for one in every)
    assert converted_models() == []
    assert all(path.suffix in (".lock", ".used") for path in cache.iterdir())


def test_files_that_are_not_ours_are_left(cache: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    make(mine)
    cache.mkdir(parents=True)
    (cache / MADE).symlink_to(mine)
    (cache / "sha256.json").write_text("{}")
    (cache / "notes.txt").write_text("mine")
    (cache / TOKENIZER).mkdir()  # no manifest: somebody else's
    make(cache / "my-model")
    (models_cache() / "link").symlink_to(mine.parent)
    assert converted_models() == []


def test_a_folder_s_links_are_removed_and_not_what_they_lead_to(
    cache: Path, tmp_path: Path
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").touch()
    (make(cache / MADE) / "link").symlink_to(tmp_path / "mine")
    [one] = converted_models()
    assert one.remove()
    assert (tmp_path / "mine" / "file").exists()


def test_what_is_in_use_or_being_made_is_left(cache: Path) -> None:
    used, making = make(cache / MADE), make(cache / TOKENIZER)
    hold(used)
    with making.with_name(f"{TOKENIZER}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        every = converted_models()
        assert [one.is_in_use for one in every] == [True, True]
        assert not any(one.remove() for one in every)
    assert [one.path for one in converted_models() if one.remove()] == [making]
    assert used.is_dir()


def test_the_last_use_is_known(cache: Path) -> None:
    folder = make(cache / MADE)
    hold(folder)
    [one] = converted_models()
    assert one.last_used.timestamp() == pytest.approx(mark_of(folder).stat().st_mtime)


def test_to_look_is_no_use(cache: Path) -> None:
    os.utime(make(cache / MADE), (1000, 1000))
    for _ in range(2):
        [one] = converted_models()
        assert not one.is_in_use
        assert one.last_used.timestamp() == 1000
    assert [path.name for path in cache.iterdir()] == [MADE]


def test_a_file_put_together_of_parts_can_be_removed_and_one_of_the_user_cannot(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = KnownModel("small", "small.gguf", (Part("a", "b"), Part("a", "c")), "", "none", "hf")
    monkeypatch.setitem(models.KNOWN_MODELS, "small", known)
    cache.mkdir(parents=True)
    (cache / "other.gguf").touch()
    (cache / "small.gguf").write_bytes(b"123")
    [one] = converted_models()
    assert (one.kind, one.size_bytes) == ("joined", 3)
    assert one.remove()
    assert (cache / "other.gguf").exists()
