from __future__ import annotations

from pathlib import Path

import pytest

from harness.cli.models import _cells, as_json
from harness.engine.models import KnownModel, Part, cache_of


def known(*parts: Part) -> KnownModel:
    return KnownModel("tiny", "tiny.gguf", parts, "0" * 64, "MIT", "hf")


def test_a_model_that_is_not_installed_says_how_to_get_it() -> None:
    found = as_json(known(Part("no_such_package", "tiny.gguf")))
    assert (found["file"], found["size_bytes"], found["converted"]) == (None, None, [])
    assert _cells(found)[-1] == f"not installed; run: {known().install}"


def test_a_model_in_parts_has_a_size_and_not_yet_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    found = as_json(known(Part("harness.cli", "models.py"), Part("harness.cli", "app.py")))
    assert found["file"] is None
    assert found["size_bytes"] > 0
    assert _cells(found)[-1] == "installed in parts; its first use puts them together"


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
    assert _cells(found)[-1] == f"{found['file']}\nconverted: {made}\ntokenizer: {tokenizer}"
