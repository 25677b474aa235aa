"""What a folder may hold, and what it may not make an engine read or run."""

from __future__ import annotations

import importlib.util
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest

from backends.api import BackendError, ModelRef
from backends.hf.weights import folder_of, tokenizer_folder_of

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("transformers") is None, reason="pip install 'llm-backend-harness[hf]'"
)

Change: TypeAlias = Callable[[Path], object]
CONFIG = {"model_type": "llama", "architectures": ["LlamaForCausalLM"]}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "model"
    made.mkdir()
    (made / "config.json").write_text(json.dumps(CONFIG))
    (made / "model.safetensors").write_bytes(b"weights")
    (tmp_path / "outside.safetensors").write_bytes(b"other weights")
    return made


def found(folder: Path) -> str:
    return folder_of(ModelRef("mine", "hf", str(folder)))


def config(folder: Path, **values: object) -> None:
    (folder / "config.json").write_text(json.dumps({**CONFIG, **values}))


def index(folder: Path, *files: object, name: str = "model.safetensors.index.json") -> None:
    (folder / "model.safetensors").unlink()
    weight_map = {f"layer.{i}": file for i, file in enumerate(files)}
    (folder / name).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def linked(folder: Path, name: str) -> None:
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(folder.parent / "outside.safetensors")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: index(f, "pytorch_model.bin"), r"names 'pytorch_model\.bin' as weights"),
        (lambda f: index(f, "../outside.safetensors"), r"names '\.\./outside\.safetensors'"),
        (lambda f: index(f, "/tmp/a.safetensors"), r"names '/tmp/a\.safetensors'"),
        (lambda f: index(f, "sub/a.safetensors"), r"names 'sub/a\.safetensors'"),
        (lambda f: index(f, 7), "names '7' as weights"),
        (lambda f: index(f, "a.safetensors"), "lacks a.safetensors"),
        (index, "names no files"),
        (lambda f: index(f, "a", name="other.json"), "holds no safetensors"),
        (lambda f: config(f, transformers_weights="adapter_model.bin"), "names 'adapter_model"),
        (lambda f: config(f, transformers_weights="../outside.safetensors"), r"names '\.\./"),
        (lambda f: config(f, transformers_weights="other.safetensors"), "lacks other.safetensors"),
        (lambda f: config(f, transformers_weights=3), "names '3' as weights"),
        (lambda f: config(f, configuration_files=["config.4.0.0.json"]), "names other files"),
        (lambda f: (f / "adapter_config.json").write_text("{}"), "holds an adapter"),
        (lambda f: (f / "modules.json").write_text("[]"), "one embedding of each text"),
        (lambda f: linked(f, "model.safetensors"), "link to a file outside the folder"),
        (lambda f: linked(f, "more.safetensors"), "link to a file outside the folder"),
        (lambda f: linked(f, "tokenizer.json"), "link to a file outside the folder"),
        (lambda f: linked(f, "config.json"), "link to a file outside the folder"),
        (
            lambda f: (f / "shard-00001-model-00001-of-00001.safetensors").touch(),
            "distributed checkpoint",
        ),
        (
            lambda f: (f / "model.safetensors").rename(f / "weights.safetensors"),
            r"neither model\.safetensors nor model\.safetensors\.index\.json",
        ),
        (lambda f: config(f, architectures=["BertForMaskedLM"]), "has no language head"),
        (lambda f: config(f, architectures=["BertModel"]), "has no language head"),
        (lambda f: config(f, architectures=["T5ForConditionalGeneration"], is_encoder_decoder=True),
         "encoder with a decoder"),
        (lambda f: config(f, text_config={"vocab_size": -1}), "vocab_size"),
        (lambda f: config(f, vocab_size=10**9, hidden_size=1000), "are 7 bytes only"),
    ],
)  # fmt: skip
def test_what_leads_elsewhere_is_refused(folder: Path, change: Change, message: str) -> None:
    assert found(folder) == str(folder)
    change(folder)
    with pytest.raises(BackendError, match=message) as caught:
        found(folder)
    assert caught.value.remedy
    assert "mine" in str(caught.value)


@pytest.mark.parametrize("name", ["adapter_config.json", "modules.json"])
def test_its_tokenizer_is_not_read_either(folder: Path, name: str) -> None:
    (folder / name).write_text("{}")
    with pytest.raises(BackendError):
        tokenizer_folder_of(ModelRef("mine", "hf", str(folder)))


def test_shards_in_the_folder_are_taken(folder: Path) -> None:
    index(folder, "a.safetensors", "b.safetensors", "a.safetensors")
    for name in ("a", "b"):
        (folder / f"{name}.safetensors").write_bytes(b"weights")
    assert found(folder) == str(folder)


def test_a_link_within_the_folder_and_one_to_the_hubs_blobs_are_followed(tmp_path: Path) -> None:
    snapshot = tmp_path / "models--me--tiny" / "snapshots" / "abc"
    blobs = tmp_path / "models--me--tiny" / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    (blobs / "1").write_text(json.dumps(CONFIG))
    (blobs / "2").write_bytes(b"weights")
    (snapshot / "config.json").symlink_to("../../blobs/1")
    (snapshot / "model.safetensors").symlink_to("../../blobs/2")
    (snapshot / "again.safetensors").symlink_to("model.safetensors")
    assert found(snapshot) == str(snapshot)


class Trap:
    """Its pickle writes a file when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (str(self.path), "w")


def test_no_pickle_is_read_by_any_name(folder: Path, tmp_path: Path) -> None:
    from tests.unit.backends.hf.tiny import llama, opened, save

    save(llama(), folder)
    sprung = tmp_path / "sprung"
    trap = pickle.dumps(Trap(sprung))
    for name in ("pytorch_model.bin", "tokenizer.pkl", "training_args.bin", "optimizer.pt"):
        (folder / name).write_bytes(trap)
    opened(folder).close()
    (folder / "model.safetensors").write_bytes(trap)
    with pytest.raises(BackendError):
        opened(folder)
    (folder / "tokenizer.model").write_bytes(trap)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(BackendError):
        opened(folder)
    assert not sprung.exists()
    pickle.loads(trap).close()  # that it would be sprung
    assert sprung.exists()
