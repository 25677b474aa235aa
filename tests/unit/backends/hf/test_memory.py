from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest

from backends.api import BackendError, MemoryPlan, ModelRef
from backends.hf import backend, memory
from backends.sharing.session import BRANCH_SLOTS
from tests.unit.backends.tiny_gguf import LAYERS, WIDTH, random_tensors, write

CONFIG = {
    "vocab_size": 1000,
    "hidden_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
FLOAT32: dict[str, Any] = {"dtype": "float32", "device": "cpu"}


def save(folder: Path, config: dict[str, Any], *shapes: list[Any]) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    head = {
        f"t{i}": {"dtype": "BF16", "shape": shape, "data_offsets": [0, 0]}
        for i, shape in enumerate(shapes)
    }
    data = json.dumps({"__metadata__": {"format": "pt"}, **head}).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(data)) + data + bytes(100_000))
    return folder


def predicted(folder: Path, tokens: int = 100, **options: Any) -> MemoryPlan:
    model = ModelRef("made", "hf", str(folder))
    plan = backend.predict_memory(model, FLOAT32 | options, tokens)
    assert plan is not None
    return plan


@pytest.mark.parametrize(
    ("more", "numbers"),
    [
        ({}, 3 * 2 * 2 * 16),
        ({"num_key_value_heads": None}, 3 * 2 * 4 * 16),
        ({"head_dim": 32}, 3 * 2 * 2 * 32),
        ({"sliding_window": 10}, 3 * 2 * 2 * 16),
        ({"num_kv_shared_layers": 1}, 2 * 2 * 2 * 16),  # as Gemma 3n has them
        (
            {"layer_types": ["full_attention", "linear_attention", "sliding_attention"]},
            2 * 2 * 2 * 16,
        ),
        ({"layer_types": ["attention", "mamba", "attention"]}, 2 * 2 * 2 * 16),
        ({"full_attention_interval": 2}, 2 * 2 * 16),  # Qwen3-Next
        ({"linear_attn_config": {"full_attn_layers": [3]}}, 2 * 2 * 16),  # Kimi Linear
        (  # MLA: what keys and values are unfolded from
            {
                "kv_lora_rank": 8,
                "qk_nope_head_dim": 12,
                "qk_rope_head_dim": 4,
                "v_head_dim": 10,
            },
            3 * (8 + 4),
        ),
    ],
)
def test_what_is_held_of_a_token(tmp_path: Path, more: dict[str, Any], numbers: int) -> None:
    folder = save(tmp_path / "m", {**CONFIG, **more}, [1000, 64])
    assert predicted(folder).token_bytes == 4 * numbers
    assert predicted(folder, dtype="bfloat16").cache_bytes == 100 * 2 * numbers


def buffers_of_token(folder: Path, dtype: str) -> float:
    """On the CPU."""
    short, long = (predicted(folder, tokens=n, dtype=dtype) for n in (100, 200))
    return (long.compute_bytes - short.compute_bytes) / 100


@pytest.mark.parametrize(
    ("heads", "dtype", "copies"),
    [(2, "float32", 1), (2, "bfloat16", 2), (4, "float32", 0), (4, "bfloat16", 1)],
)
def test_what_a_layer_copies_while_it_attends_grows_with_the_length(
    tmp_path: Path, heads: int, dtype: str, copies: int
) -> None:
    """All four heads' keys and values: where two share them, and once more in half precision."""
    folder = save(tmp_path / "m", {**CONFIG, "num_key_value_heads": heads}, [1000, 64])
    size = 2 if dtype == "bfloat16" else 4
    mask = 512 * (1 + size)
    assert buffers_of_token(folder, dtype) == mask + copies * 4 * 2 * 16 * size


@pytest.mark.parametrize(
    ("kind", "dtype", "score"),
    [
        ("gemma2", "float32", 8),
        ("gemma2", "bfloat16", 10),
        ("gpt_oss", "float32", 12),
        ("gpt_oss", "bfloat16", 6),
    ],
)
def test_plain_attention_has_the_scores_of_all_heads_at_once(
    tmp_path: Path, kind: str, dtype: str, score: int
) -> None:
    folder = save(tmp_path / "m", {**CONFIG, "model_type": kind}, [1000, 64])
    size = 2 if dtype == "bfloat16" else 4
    token = 512 * (1 + size) + 4 * 2 * 16 * size + 512 * 4 * score
    assert buffers_of_token(folder, dtype) == token
    model = ModelRef("made", "hf", str(folder))
    assert backend.predict_memory(model, {"dtype": dtype, "device": "cuda"}, 100) is None


def test_where_scores_were_not_measured_nothing_is_predicted(tmp_path: Path) -> None:
    folder = save(tmp_path / "m", {**CONFIG, "model_type": "mimo_v2_flash"}, [1000, 64])
    assert backend.predict_memory(ModelRef("made", "hf", str(folder)), FLOAT32, 100) is None


def test_all_kinds_that_have_plain_attention_only_are_known() -> None:
    transformers = pytest.importorskip("transformers")
    names: dict[str, Any] = transformers.models.auto.modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    kinds = {
        kind
        for kind, model in names.items()
        if not getattr(getattr(transformers, str(model)), "_supports_sdpa", False)
    }
    assert kinds <= memory._UNMEASURED | set(memory._SCORE_BYTES)


def test_a_gpu_takes_the_slots_for_branches_at_once(tmp_path: Path) -> None:
    folder = save(tmp_path / "m", CONFIG, [1000, 64])
    cpu, gpu = (predicted(folder, device=device) for device in ("cpu", "cuda"))
    assert gpu.cache_bytes - cpu.cache_bytes == BRANCH_SLOTS * cpu.token_bytes


def index(folder: Path, *files: str) -> None:
    """The index of these files of weights."""
    weight_map = {f"t{number}": file for number, file in enumerate(files)}
    said = json.dumps({"weight_map": weight_map})
    (folder / "model.safetensors.index.json").write_text(said)


@pytest.mark.parametrize("answer", [True, False, None])
def test_without_a_device_the_one_counts_that_the_session_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: bool | None
) -> None:
    monkeypatch.setattr(memory, "is_on_gpu", lambda _: answer)
    model = ModelRef("made", "hf", str(save(tmp_path / "m", CONFIG, [1000, 64])))
    plan = backend.predict_memory(model, {"dtype": "float32"}, 100)
    assert (plan and plan.on_gpu) is answer


def test_weights_are_as_many_as_the_heads_of_all_files_say(tmp_path: Path) -> None:
    folder = save(tmp_path / "m", {"text_config": CONFIG}, [1000, 64], [64], [])
    other = save(tmp_path / "other", CONFIG, [10, 10])
    (folder / "model.safetensors").rename(folder / "model-1.safetensors")
    (other / "model.safetensors").rename(folder / "model-2.safetensors")
    index(folder, "model-1.safetensors", "model-2.safetensors")
    assert predicted(folder).weights_bytes == 4 * (64_000 + 64 + 1 + 100)


def test_files_that_are_not_loaded_do_not_count(tmp_path: Path) -> None:
    """Mistral's models have all weights twice: in parts, and in one file of another layout."""
    folder = save(tmp_path / "m", CONFIG, [1000, 64])
    other = save(tmp_path / "other", CONFIG, [10, 10])
    (other / "model.safetensors").rename(folder / "consolidated.safetensors")
    assert predicted(folder).weights_bytes == 4 * 64_000


@pytest.mark.parametrize("is_link", [False, True])
def test_of_weights_that_are_not_all_there_nothing_is_predicted(
    tmp_path: Path, is_link: bool
) -> None:
    """As a download leaves them that was interrupted, or a cache of which blobs were removed."""
    folder = save(tmp_path / "m", CONFIG, [1000, 64])
    (folder / "model.safetensors").rename(folder / "model-1.safetensors")
    index(folder, "model-1.safetensors", "model-2.safetensors")
    if is_link:
        (folder / "model-2.safetensors").symlink_to(tmp_path / "nowhere")
    assert backend.predict_memory(ModelRef("made", "hf", str(folder)), FLOAT32, 100) is None


def test_what_foretells_further_tokens_is_not_loaded(tmp_path: Path) -> None:
    """It is a layer behind the last."""
    folder = save(tmp_path / "m", {**CONFIG, "num_nextn_predict_layers": 1}, [10])
    head = {
        f"model.layers.{i}.weight": {"dtype": "BF16", "shape": [10], "data_offsets": [0, 0]}
        for i in range(4)
    }
    data = json.dumps(head).encode()
    file = struct.pack("<Q", len(data)) + data + bytes(1000)
    (folder / "model.safetensors").write_bytes(file)
    assert predicted(folder).weights_bytes == 4 * 3 * 10


def test_a_gguf_file_is_converted_so_its_numbers_count(tmp_path: Path) -> None:
    path = write(tmp_path / "tiny.gguf")
    plan = backend.predict_memory(ModelRef("tiny", "gguf", str(path)), FLOAT32, 100)
    assert plan is not None
    assert plan.weights_bytes == 4 * sum(values.size for values in random_tensors().values())
    assert plan.cache_bytes == 100 * LAYERS * 2 * WIDTH * 4


def test_without_weights_nothing_is_predicted(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    assert backend.predict_memory(ModelRef("made", "hf", str(tmp_path)), FLOAT32, 100) is None


@pytest.mark.parametrize(
    "config",
    [
        {"n_layer": 3, "n_head": 4, "n_embd": 64, "vocab_size": 1000},  # GPT-2
        {"text_config": {"hidden_size": 64, "num_hidden_layers": 3}, "vocab_size": 1000},  # Gemma 3
        {**CONFIG, "quantization_config": {"quant_method": "fp8"}},
    ],
)
def test_of_a_config_that_does_not_say_the_sizes_nothing_is_predicted(
    tmp_path: Path, config: dict[str, Any]
) -> None:
    model = ModelRef("made", "hf", str(save(tmp_path / "m", config, [1000, 64])))
    assert backend.predict_memory(model, FLOAT32, 100) is None


@pytest.mark.parametrize(
    ("config", "shape", "said"),
    [
        ({"num_hidden_layers": -3}, [8], "num_hidden_layers is -3"),
        ({"num_attention_heads": 2**60}, [8], "num_attention_heads is 1152921504606846976"),
        ({"hidden_size": None}, [8], "hidden_size is None"),
        ({}, [-8], "the shape of t0 is"),
        ({}, ["8"], "the shape of t0 is"),
        ({}, [2**60], "speaks of 1152921504606846976 numbers"),
    ],
)
def test_heads_that_lie_are_refused(
    tmp_path: Path, config: dict[str, Any], shape: list[Any], said: str
) -> None:
    folder = save(tmp_path / "m", {**CONFIG, **config}, shape)
    with pytest.raises(BackendError, match=f"the files of made cannot be right.*{said}"):
        predicted(folder)


def test_a_head_longer_than_its_file_is_refused(tmp_path: Path) -> None:
    folder = save(tmp_path / "m", CONFIG, [8])
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", 2**60) + b"{}")
    with pytest.raises(
        BackendError, match=r"the head of model.safetensors has 1152921504606846976"
    ):
        predicted(folder)
