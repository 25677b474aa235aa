"""What is read of a config.json, compared with what transformers itself makes of it."""

from __future__ import annotations

import importlib.util
import json
from typing import Any

import pytest

from backends.hf.shape import held_of

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("transformers") is None, reason="pip install 'llm-backend-harness[hf]'"
)

SIZES: dict[str, Any] = {
    "vocab_size": 100,
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
LATENT: dict[str, Any] = {
    **SIZES,
    "num_hidden_layers": 2,
    "num_key_value_heads": 4,
    "kv_lora_rank": 8,
    "q_lora_rank": 16,
    "qk_nope_head_dim": 12,
    "qk_rope_head_dim": 4,
    "v_head_dim": 10,
    "n_routed_experts": 4,
    "n_group": 1,
    "topk_group": 1,
    "num_experts_per_tok": 1,
    "moe_intermediate_size": 16,
    "first_k_dense_replace": 1,
}
GEMMA4: dict[str, Any] = {
    **SIZES,
    "head_dim": 8,
    "num_hidden_layers": 6,
    "vocab_size_per_layer_input": 100,
    "hidden_size_per_layer_input": 4,
    "layer_types": ["sliding_attention", "sliding_attention", "full_attention"] * 2,
    "global_head_dim": 16,
}


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("llama", {**SIZES, "num_hidden_layers": 3}),
        ("gemma4_text", GEMMA4),
        ("gemma4_text", {**GEMMA4, "global_head_dim": None}),
        ("gemma4_text", {**GEMMA4, "num_global_key_value_heads": 1}),
        ("gemma4_text", {**GEMMA4, "num_global_key_value_heads": 1, "attention_k_eq_v": True}),
        ("gemma4_text", {**GEMMA4, "num_kv_shared_layers": 2}),
        ("deepseek_v2", LATENT),
        ("deepseek_v3", LATENT),
    ],
)
def test_a_model_caches_as_many_numbers(kind: str, values: dict[str, Any]) -> None:
    import torch
    import transformers
    from transformers import CONFIG_MAPPING

    from backends.hf.cache import cache_of

    given = {key: value for key, value in values.items() if value is not None}
    config = CONFIG_MAPPING[kind](**given)
    plain: Any = transformers.AutoModelForCausalLM
    model, cache = plain.from_config(config).eval(), cache_of(10)
    with torch.inference_mode():
        model(input_ids=torch.arange(5)[None], past_key_values=cache, use_cache=True)
    held = [layer for layer in cache.layers if layer.keys is not None]
    cached = sum(t[0, :, 0].numel() for layer in held for t in (layer.keys, layer.values))
    # As its maker wrote it, and as transformers writes it.
    for said in ({"model_type": kind, **given}, json.loads(config.to_json_string())):
        found = held_of(said, "made")
        assert found is not None
        assert found.cached == cached


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("qwen3_next", {"num_hidden_layers": 8, "full_attention_interval": 4}),
        ("qwen3_5_text", {"num_hidden_layers": 7, "full_attention_interval": 3}),
        ("jamba", {"num_hidden_layers": 9, "attn_layer_period": 4, "attn_layer_offset": 0}),
        ("jamba", {"num_hidden_layers": 9, "attn_layer_period": 4, "attn_layer_offset": 2}),
        ("jamba", {"num_hidden_layers": 12, "attn_layer_period": 8}),
        ("bamba", {"num_hidden_layers": 5, "attn_layer_indices": [1, 3], "mamba_n_heads": 8}),
        ("nemotron_h", {"num_hidden_layers": 6, "hybrid_override_pattern": "M*E-M*"}),
        ("lfm2", {"num_hidden_layers": 5, "full_attn_idxs": [0, 4]}),
        ("zamba2", {"num_hidden_layers": 2, "layers_block_type": ["mamba", "attention"]}),
        ("llama", {"num_hidden_layers": 2, "layer_types": ["attention", "attention"]}),
    ],
)
def test_the_layers_with_attention_are_those_of_transformers(
    kind: str, values: dict[str, Any]
) -> None:
    from transformers import CONFIG_MAPPING

    given = {**SIZES, "head_dim": 8, **values}
    made = CONFIG_MAPPING[kind](**given)
    found = held_of({"model_type": kind, "mamba_d_conv": 4, **given}, "made")
    assert found is not None
    assert found.cached == list(made.layer_types).count("full_attention") * 2 * 2 * 8


@pytest.mark.parametrize(
    "values",
    [
        {"mamba_d_state": 16},  # and not which of the layers are so
        {"linear_num_key_heads": 16},
        {"attn_type_list": [0, 1]},
        {"index_topk": 2048},
        {"model_type": "zamba", "mamba_expand": 2, "attn_layer_period": 6, "attn_layer_offset": 4},
        {"model_type": "gemma4_text", "global_head_dim": 512},
        {"layer_types": ["full_attention", "hybrid"]},
        {"layer_types": ["full_attention", {}]},
    ],
)
def test_of_layers_that_are_not_known_nothing_is_said(values: dict[str, Any]) -> None:
    assert held_of({**SIZES, "num_hidden_layers": 2, **values}, "made") is None
