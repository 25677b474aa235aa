"""What other programs hold: a home folder with some of everything."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from harness.engine.found import FoundModel, found_models, from_home
from harness.engine.models import resolve_model
from tests.unit.backends.gguf_head import head

REVISION = "a" * 40
LLAMA = {"architectures": ["LlamaForCausalLM"]}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in (
        "HF_HUB_CACHE",
        "HUGGINGFACE_HUB_CACHE",
        "HF_HOME",
        "XDG_CACHE_HOME",
        "LLAMA_CACHE",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path / "ollama"))
    monkeypatch.setattr("platform.system", lambda: "Linux")
    return tmp_path


def put(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def repository(home: Path, name: str, /, has_main: Any = True, **files: Any) -> Path:
    """Files by names with two underscores for the point."""
    folder = home / ".cache/huggingface/hub" / f"models--{name.replace('/', '--')}"
    snapshot = folder / "snapshots" / REVISION
    snapshot.mkdir(parents=True)
    for file, content in files.items():
        path = snapshot / file.replace("__", ".")
        put(path, content if isinstance(content, bytes) else json.dumps(content).encode())
    if has_main:
        put(folder / "refs" / "main", REVISION.encode())
    return snapshot


def found() -> dict[str, FoundModel]:
    return {one.name: one for one in found_models()}


def test_nothing_is_found_where_nothing_is(home: Path) -> None:
    assert found_models() == []


def test_files_of_lm_studio_and_llama_cpp_are_given_by_path(home: Path) -> None:
    file = head("llama")
    put(home / ".lmstudio/models/someone/small model/small.gguf", file)
    put(home / ".lmstudio/models/someone/eyes/mmproj.gguf", head("clip"))
    put(home / ".lmstudio/models/a/b/c/d/e/f/g/too-deep.gguf", file)
    put(home / ".cache/llama.cpp/big-00001-of-00002.gguf", file)
    put(home / ".cache/llama.cpp/big-00002-of-00002.gguf", file)
    put(home / ".cache/llama.cpp/half-00001-of-00002.gguf", file)
    models = found()
    assert set(models) == {"small", "mmproj", "big-00001-of-00002", "half-00001-of-00002"}
    small, big = models["small"], models["big-00001-of-00002"]
    assert small.model == "~/.lmstudio/models/someone/small model/small.gguf"
    assert (small.source, small.format, small.size_bytes) == ("LM Studio", "gguf", len(file))
    assert (big.model, big.size_bytes) == (
        "~/.cache/llama.cpp/big-00001-of-00002.gguf",
        2 * len(file),
    )
    assert resolve_model(big.model, ("gguf",), {}).location == str(big.path)
    assert (models["mmproj"].model, models["half-00001-of-00002"].model) == ("", "")
    assert "its architecture is clip" in models["mmproj"].problem
    assert "is not beside it" in models["half-00001-of-00002"].problem


def test_models_of_ollama_are_given_by_name(home: Path) -> None:
    digest = "0" * 64
    put(home / "ollama/blobs" / f"sha256-{digest}", head("llama"))
    layer = {"mediaType": "application/vnd.ollama.image.model", "digest": f"sha256:{digest}"}
    for tag, layers in (("latest", [layer]), ("cloud", [])):
        manifest = json.dumps({"layers": layers}).encode()
        put(home / "ollama/manifests/registry.ollama.ai/library/small" / tag, manifest)
    models = found()
    assert models["small"].model == "ollama:small"
    assert (models["small:cloud"].model, models["small:cloud"].format) == ("", "")


def test_models_of_the_hub_are_given_by_name_where_its_client_finds_them(home: Path) -> None:
    good: dict[str, Any] = {
        "config__json": LLAMA,
        "model__safetensors": b"12345",
        "tokenizer__json": {},
    }
    repository(home, "me/good", **good)
    without_main = repository(home, "me/loose", has_main=False, **good)
    bare = repository(home, "gpt2", **good)
    models = found()
    assert (models["me/good"].model, models["me/good"].format) == ("me/good", "hf")
    assert models["me/good"].size_bytes == 5
    assert models["me/loose"].model == from_home(without_main)
    assert models["gpt2"].model == from_home(bare)  # a name needs its owner


def test_a_gguf_file_of_the_hub_is_given_by_path(home: Path) -> None:
    snapshot = repository(home, "me/small-GGUF", config__json=LLAMA)
    file = put(snapshot / "small.gguf", head("llama"))
    [only] = found_models()
    assert only.model == f"~/{file.relative_to(home)}"


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        ({"tokenizer__json": {}, "config__json": LLAMA}, "tokenizer only"),
        ({"pytorch_model__bin": b"x", "config__json": LLAMA}, "pickles"),
        ({"model__safetensors": b"x"}, "no config.json"),
        (
            {"model__safetensors": b"x", "config__json": {"architectures": ["BertModel"]}},
            "BertModel has no language head",
        ),
        (
            {
                "config__json": LLAMA,
                "one__safetensors": b"x",
                "model__safetensors__index__json": {
                    "weight_map": {"a": "one.safetensors", "b": "two.safetensors"}
                },
            },
            "1 of 2 files of weights are missing",
        ),
    ],
)
def test_what_no_engine_could_load_is_marked(
    home: Path, files: dict[str, Any], problem: str
) -> None:
    repository(home, "me/odd", **files)
    odd = found()["me/odd"]
    assert odd.model == ""
    assert problem in odd.problem


@pytest.mark.parametrize(
    "content",
    [b"[" * 10**5, b"\xff\x00", b'{"weight_map": {"a": "../../../../etc/passwd", "b": []}}'],
)
def test_hostile_files_are_no_models(home: Path, content: bytes) -> None:
    index: dict[str, Any] = {"model__safetensors__index__json": content, "config__json": LLAMA}
    repository(home, "me/evil", **index)
    repository(home, "me/evil2", config__json=content, model__safetensors=b"x")
    folder = home / ".cache/huggingface/hub/models--me--out"
    put(folder / "refs" / "main", b"../../../..")
    put(home / ".cache/llama.cpp/line\nfeed.gguf", head("llama"))
    assert all(one.model in ("", "me/evil2") for one in found_models())
    assert {"me/evil", "me/evil2"} == set(found())


def test_pipes_are_not_opened(home: Path) -> None:
    """To open one would wait for ever."""
    snapshot = repository(home, "me/odd", has_main=False)
    refs = home / ".cache/huggingface/hub/models--me--odd/refs"
    for folder, name in (
        (refs, "main"),
        (snapshot, "config.json"),
        (snapshot, "a.gguf"),
        (home / ".cache/llama.cpp", "b.gguf"),
    ):
        folder.mkdir(parents=True, exist_ok=True)
        os.mkfifo(folder / name)
    assert [one.model for one in found_models()] == [""]


def test_links_to_folders_are_not_followed(home: Path) -> None:
    put(home / "elsewhere/small.gguf", head("llama"))
    (home / ".lmstudio/models").mkdir(parents=True)
    (home / ".lmstudio/models/loop").symlink_to(home)
    assert found_models() == []


def test_the_cache_of_the_hub_is_where_its_client_has_it(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository(home, "me/good", config__json=LLAMA, model__safetensors=b"x")
    moved = home / "moved" / "hub"
    moved.parent.mkdir()
    (home / ".cache/huggingface/hub").rename(moved)
    assert found_models() == []
    monkeypatch.setenv("HF_HOME", str(moved.parent))
    assert list(found()) == ["me/good"]
    monkeypatch.setenv("HF_HUB_CACHE", str(home / "none"))
    assert found_models() == []
