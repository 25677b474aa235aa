"""Names of Ollama's, and manifests that are damaged or hostile."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.engine.models import resolve_model
from harness.engine.ollama import names, weights_of
from harness.errors import EngineError, UsageError
from tests.unit.backends.gguf_head import head

HASH = "ab" * 32
WEIGHTS = {"mediaType": "application/vnd.ollama.image.model", "digest": f"sha256:{HASH}", "size": 9}
ADAPTER = {**WEIGHTS, "mediaType": "application/vnd.ollama.image.adapter"}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path))
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs" / f"sha256-{HASH}").write_bytes(head("llama"))
    return tmp_path


def add(root: Path, path: str, *layers: Any, folder: str = "manifests") -> Path:
    manifest = root / folder / path
    manifest.parent.mkdir(parents=True, exist_ok=True)
    manifest.write_text(json.dumps({"schemaVersion": 2, "layers": layers}))
    return manifest


@pytest.mark.parametrize(
    ("path", "name", "folder"),
    [
        ("registry.ollama.ai/library/llama3.2/latest", "llama3.2", "manifests"),
        ("registry.ollama.ai/library/llama3.2/1b", "llama3.2:1b", "manifests"),
        ("registry.ollama.ai/me/mine/latest", "me/mine", "manifests"),
        ("hf.co/me/mine-GGUF/Q4_K_M", "hf.co/me/mine-GGUF:Q4_K_M", "manifests"),
        ("ollama.com/library/llama3.2/latest", "llama3.2", "manifest-v2"),
    ],
)
def test_a_model_is_given_by_the_name_that_ollama_has_for_it(
    root: Path, path: str, name: str, folder: str
) -> None:
    add(root, path, {"mediaType": "application/vnd.ollama.image.template"}, WEIGHTS, folder=folder)
    assert names() == [f"ollama:{name}"]
    found = resolve_model(f"ollama:{name}", ("gguf",), {})
    assert found.name == f"ollama:{name}"
    assert found.location == str(root / "blobs" / f"sha256-{HASH}")


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([], "is not one GGUF file"),
        ([WEIGHTS, WEIGHTS], "is not one GGUF file"),
        ([{**WEIGHTS, "digest": "sha256:../../../etc/passwd"}], "is not one GGUF file"),
        ([WEIGHTS, ADAPTER], "is an adapter"),
        ([{**WEIGHTS, "digest": "sha256:" + "0" * 64}], "are not there"),
        ([7], "it is damaged"),
    ],
)
def test_a_model_that_is_not_one_file_here_is_refused(
    root: Path, layers: list[Any], message: str
) -> None:
    add(root, "registry.ollama.ai/library/odd/latest", *layers)
    with pytest.raises(EngineError, match=message) as caught:
        weights_of("ollama:odd")
    assert caught.value.remedy


@pytest.mark.parametrize("text", ["[" * 100_000, '{"layers": "' + "x" * 2**21 + '"}', "\x00", "[]"])
def test_a_hostile_manifest_is_an_error(root: Path, text: str) -> None:
    add(root, "registry.ollama.ai/library/odd/latest").write_text(text)
    with pytest.raises(EngineError, match="it is damaged"):
        weights_of("ollama:odd")


@pytest.mark.parametrize(
    "name", ["none", "../../x", "a/../b", "", "a/b/c/d", "/etc/passwd", "a:b:c"]
)
def test_a_name_that_is_none_is_wrong_usage(root: Path, name: str) -> None:
    add(root, "registry.ollama.ai/library/here/latest", WEIGHTS)
    with pytest.raises(UsageError, match="there is no model"):
        weights_of(f"ollama:{name}")


def test_a_path_that_is_no_name_is_not_listed(root: Path) -> None:
    add(root, "registry.ollama.ai/library/o dd/latest", WEIGHTS)
    assert names() == []
