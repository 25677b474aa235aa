"""Models by name, by path and by the config's own tables."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from backends.api import NO_FILES, ModelRef
from harness.engine import models
from harness.engine.models import (
    KNOWN_MODELS,
    KnownModel,
    Part,
    cache_of,
    file_sha256,
    join,
    made_of,
    resolve_model,
    weights_sha256,
)
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
    with pytest.raises(UsageError, match="is a GGUF file, and this backend reads other or more"):
        resolve_model(str(gguf), ("other", "more"), {})
    with pytest.raises(UsageError, match=r"is a folder .*, and this backend reads a GGUF file"):
        resolve_model(str(gguf.parent), ("gguf",), {})


def test_a_model_that_is_nowhere_is_an_error() -> None:
    with pytest.raises(UsageError, match="there is no model 'nosuch'") as caught:
        resolve_model("nosuch", ("gguf",), {"mine": {}})
    assert "mine, smollm2-135m, gemma3-270m" in caught.value.remedy


def known(*parts: Part, sha256: str = "") -> KnownModel:
    return KnownModel("small", "small.gguf", parts, sha256, "none", "pip install small")


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = cache_of(Path("small.gguf"))
    assert folder.is_relative_to(tmp_path)
    return folder


def test_a_known_model_without_its_package_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    here, elsewhere = Part("harness", "errors.py"), Part("no_such_package", "small.gguf")
    monkeypatch.setitem(models.KNOWN_MODELS, "small", known(here, elsewhere))
    with pytest.raises(EngineError, match="small are not installed") as caught:
        resolve_model("small", ("gguf",), {})
    assert caught.value.remedy == "Run: pip install small"
    assert resolve_model("small", (NO_FILES,), {}).location == ""


def test_a_known_model_is_found_in_its_package() -> None:
    """Here the package is one that is there for certain, and holds no such file, or a folder."""
    assert known(Part("harness", "errors.py")).path is not None
    assert known(Part("harness", "none.gguf")).path is None
    assert known(Part("harness", "engine")).path is None


def test_parts_are_put_together_at_the_first_use(cache: Path) -> None:
    parts = (Part("harness", "errors.py"), Part("backends", "api.py"))
    whole = b"".join(part.path.read_bytes() for part in parts if part.path)
    model = known(*parts, sha256=hashlib.sha256(whole).hexdigest())
    assert (model.path, model.size_bytes) == (None, len(whole))
    assert not cache.exists()  # to look costs nothing
    made = model.fetch()
    assert (made, made.read_bytes()) == (cache / "small.gguf", whole)
    assert model.path == made == model.fetch()
    made.write_bytes(whole[:-1])
    assert model.path is None
    assert model.fetch().read_bytes() == whole
    assert list(cache.iterdir()) == [made]


def test_damaged_parts_leave_no_file(gguf: Path) -> None:
    whole = gguf.parent / "cache" / "whole.gguf"
    with pytest.raises(EngineError, match=r"the parts of whole\.gguf are damaged"):
        join([gguf, gguf], whole, "0" * 64)
    assert list(whole.parent.iterdir()) == []


def test_a_cache_that_cannot_be_written_is_an_error(cache: Path) -> None:
    cache.parent.parent.mkdir()
    cache.parent.write_text("a file where the folder should be")
    with pytest.raises(EngineError, match="small could not be written"):
        known(Part("harness", "errors.py"), Part("backends", "api.py")).fetch()


def test_what_was_made_of_a_model_is_found(cache: Path, gguf: Path) -> None:
    assert made_of(Path("small.gguf")) == []
    for name in ("one", ".half"):
        (cache / name).mkdir(parents=True)
    (cache / "one.lock").touch()
    assert made_of(Path("elsewhere/small.gguf")) == [cache / "one"]


@pytest.mark.parametrize("model", KNOWN_MODELS.values(), ids=lambda model: model.name)
def test_a_known_model_is_the_file_it_says(model: KnownModel) -> None:
    if model.size_bytes is None:
        pytest.skip(model.install)
    assert file_sha256(model.fetch()) == model.sha256


def test_the_hash_is_of_the_files_bytes(gguf: Path) -> None:
    assert file_sha256(gguf) == hashlib.sha256(b"GGUF").hexdigest()


def test_a_folders_hash_is_of_weights_and_config(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def found(name: str = "", format_: str = "hf") -> str | None:
        return weights_sha256(ModelRef("mine", format_, str(tmp_path / name)))

    assert found() is None
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "a.safetensors").write_bytes(b"1")
    one = found()
    (tmp_path / "README.md").write_text("no weights")
    assert found() == one
    (tmp_path / "a.safetensors").write_bytes(b"2")
    assert one != found()
    assert found("a.safetensors", "gguf") == file_sha256(tmp_path / "a.safetensors")
    assert found("nothing") is None
    monkeypatch.chdir(tmp_path)
    assert weights_sha256(ModelRef("none", NO_FILES, "")) is None
