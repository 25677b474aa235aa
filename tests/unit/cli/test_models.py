from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.cli.models import _cells, as_json, models
from harness.engine.models import KnownModel, Part, cache_of, models_cache
from harness.errors import UsageError
from tests.unit.backends.gguf_head import head
from tests.unit.engine.test_converted import MADE, make


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


def test_what_other_programs_hold_is_listed_with_what_to_type(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("LLAMA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path / "ollama"))
    folder = tmp_path / "cache" / ("long " * 12 + "name")
    folder.mkdir(parents=True)
    (folder / "small.gguf").write_bytes(head("llama"))
    (folder / "eyes.gguf").write_bytes(head("clip"))
    snapshot = tmp_path / "hub/models--me--good/snapshots/main"
    snapshot.mkdir(parents=True)
    (tmp_path / "hub/models--me--good/refs").mkdir()
    (tmp_path / "hub/models--me--good/refs/main").write_text("main")
    (snapshot / "config.json").write_text("{}")
    (snapshot / "model.safetensors").touch()
    models(found=True)
    said = capsys.readouterr().out
    assert f"--model '~/cache/{folder.name}/small.gguf'\n" in said
    assert "--backend hf --model me/good\n" in said
    assert "eyes: it is not a model that writes text" in said
    assert str(tmp_path) not in said
    models(found=True, json=True)
    by_name = {one["name"]: one for one in json.loads(capsys.readouterr().out)["found"]}
    assert by_name["small"]["model"] == f"~/cache/{folder.name}/small.gguf"
    assert (by_name["eyes"]["model"], by_name["eyes"]["options"]) == ("", "")


def test_nothing_is_removed_without_a_yes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    models(clean=True)
    assert "holds nothing" in capsys.readouterr().out
    made = make(models_cache() / "small" / MADE, 2**20)
    with pytest.raises(UsageError, match="nobody is there to say yes"):
        models(clean=True)
    assert made.exists()
    models(clean=True, yes=True)
    assert not made.exists()
    assert "Removed 1.00 MiB.\n" in capsys.readouterr().out


@pytest.mark.parametrize("flags", [{"found": True, "clean": True}, {"yes": True}])
def test_flags_that_do_not_go_together_are_refused(flags: dict[str, bool]) -> None:
    with pytest.raises(UsageError):
        # mypy takes every value of a mapping for every parameter.
        models(**flags)  # type: ignore[arg-type]
