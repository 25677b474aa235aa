"""Models by name, by path and by the config's own tables."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from backends.api import NO_FILES, ModelRef
from harness.engine import models
from harness.engine.models import KnownModel, file_sha256, resolve_model
from harness.errors import EngineError, UsageError


@pytest.fixture
def gguf(tmp_path: Path) -> Path:
    path = tmp_path / "my.gguf"
    path.write_bytes(b"GGUF")
    return path


def test_the_mock_needs_no_files() -> None:
    assert resolve_model("anything", (NO_FILES,), {}) == ModelRef("anything", NO_FILES, "")


def test_a_path_is_a_model(gguf: Path) -> None:
    found = resolve_model(str(gguf), ("gguf",), {})
    assert (found.name, found.format, found.location) == (str(gguf), "gguf", str(gguf))


def test_a_folder_is_a_model_and_so_is_a_name_on_the_hub(tmp_path: Path) -> None:
    folder = resolve_model(str(tmp_path), ("hf",), {})
    assert (folder.format, folder.location) == ("hf", str(tmp_path))
    named = resolve_model("someone/something-1.0", ("hf",), {})
    assert (named.format, named.location) == ("hf", "someone/something-1.0")


def test_a_table_gives_a_name_several_forms(gguf: Path) -> None:
    own = {"mine": {"gguf": str(gguf), "other": str(gguf.parent / "missing")}}
    assert resolve_model("mine", ("gguf", "other"), own).location == str(gguf)
    with pytest.raises(EngineError, match=r"there is no file .*missing"):
        resolve_model("mine", ("other", "gguf"), own)


def test_a_table_of_ones_own_comes_before_a_known_name(gguf: Path) -> None:
    own = {"smollm2-135m": {"gguf": str(gguf)}}
    assert resolve_model("smollm2-135m", ("gguf",), own).location == str(gguf)


def test_a_path_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"there is no file .*none\.gguf"):
        resolve_model(str(tmp_path / "none.gguf"), ("gguf",), {})


def test_a_model_in_no_form_the_backend_reads_is_an_error(gguf: Path) -> None:
    with pytest.raises(UsageError, match=r"form this backend reads \(other\)") as caught:
        resolve_model(str(gguf), ("other",), {"mine": {}})
    assert "mine, smollm2-135m" in caught.value.remedy


def test_a_known_model_without_its_package_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    known = KnownModel("small", "no_such_package", "small.gguf", "none", "pip install small")
    monkeypatch.setitem(models.KNOWN_MODELS, "small", known)
    with pytest.raises(EngineError, match="small are not installed") as caught:
        resolve_model("small", ("gguf",), {})
    assert caught.value.remedy == "Run: pip install small"


def test_a_known_model_is_found_in_its_package(tmp_path: Path, gguf: Path) -> None:
    """Here the package is one that is there for certain, and holds no such file, or a folder."""
    assert KnownModel("x", "harness", "errors.py", "", "").path is not None
    assert KnownModel("x", "harness", "none.gguf", "", "").path is None
    assert KnownModel("x", "harness", "engine", "", "").path is None


def test_the_hash_is_of_the_files_bytes(gguf: Path) -> None:
    assert file_sha256(gguf) == hashlib.sha256(b"GGUF").hexdigest()
