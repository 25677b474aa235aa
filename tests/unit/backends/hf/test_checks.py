"""A prompt's result does not depend on the other prompts of the call, or the model is refused."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from backends.api import BackendError, Decoding
from tests.unit.backends.hf.tiny import SIZES, ask, logprobs, opened, random_model, save

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("transformers") is None, reason="pip install 'llm-backend-harness[hf]'"
)

KV: dict[str, Any] = {"num_key_value_heads": 2, "head_dim": 8}
SHARED = tuple((5 * i) % 43 + 2 for i in range(60))
PROMPTS = (
    [*SHARED, 1, 2],
    [*SHARED, 1, 2, 8, 9],
    [*SHARED[:36], 40, 41, 42],
    [*SHARED[:20], 40, 41],
    [*SHARED[:5], 43],
    [44, 45],
)
LABELS = ((3,), (6,))
LONGROPE: dict[str, Any] = {
    "original_max_position_embeddings": 40,
    "rope_parameters": {
        "rope_type": "longrope",
        "rope_theta": 10000.0,
        "short_factor": [1.0, 1.5, 2.0, 1.2],
        "long_factor": [4.0, 5.0, 6.0, 7.0],
        "original_max_position_embeddings": 40,
    },
}
MOE: dict[str, Any] = {"num_local_experts": 2, "num_experts_per_tok": 1}

RIGHT: Mapping[str, tuple[str, dict[str, Any]]] = {
    "absolute positions": ("GPT2", {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 160}),
    "window of its own in some layers": (
        "Gemma2",
        {**KV, "sliding_window": 16, "layer_types": ["sliding_attention", "full_attention"]},
    ),
    "windows by kinds": (
        "Gemma3Text",
        {**KV, "sliding_window": 16, "layer_types": ["sliding_attention", "full_attention"]},
    ),
    "one window": ("Mistral", {**KV, "sliding_window": 16}),
    "two kinds of positions": ("Phi3", {"num_key_value_heads": 2, **LONGROPE}),
    "two kinds of positions, elsewhere": ("Llama", {**KV, **LONGROPE}),
    "chunks": (
        "Llama4Text",
        {
            **KV,
            **MOE,
            "num_hidden_layers": 4,
            "attention_chunk_size": 16,
            "intermediate_size_mlp": 32,
        },
    ),
    "positions that stretch": (
        "Llama",
        {**KV, "rope_parameters": {"rope_type": "dynamic", "factor": 4.0, "rope_theta": 10000.0}},
    ),
    "experts": ("Mixtral", {**KV, **MOE}),
    "sinks": (
        "GptOss",
        {**KV, **MOE, "sliding_window": 16, "layer_types": ["sliding_attention", "full_attention"]},
    ),
    "learned positions": ("OPT", {"ffn_dim": 32, "word_embed_proj_dim": 32}),
    "part of the head turned": ("GPTNeoX", {}),
    "turned by another": ("GPTJ", {"n_embd": 32, "n_layer": 2, "n_head": 4, "rotary_dim": 4}),
    "three positions a token": ("Qwen2", {**KV, "use_sliding_window": False}),
    "no biases in heads": ("Falcon", {"alibi": False, "new_decoder_architecture": False}),
}

WRONG: Mapping[str, tuple[str, dict[str, Any], str]] = {
    "convolutions": ("Lfm2", {**KV, "layer_types": ["conv", "full_attention"]}, "kind conv"),
    "linear attention": (
        "Qwen3Next",
        {
            **KV,
            "linear_num_key_heads": 2,
            "linear_num_value_heads": 4,
            "linear_key_head_dim": 8,
            "linear_value_head_dim": 8,
            "num_experts": 4,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 32,
            "shared_expert_intermediate_size": 32,
            "layer_types": ["linear_attention", "full_attention"],
        },
        "kind linear_attention",
    ),
    "state spaces": ("Mamba", {"state_size": 4}, "kind linear_attention"),
    "recurrence": (
        "RecurrentGemma",
        {**KV, "lru_width": 32, "attention_window_size": 16, "block_types": ["recurrent"]},
        "recurrent_gemma model, which has",
    ),
    "biases by distance": ("Falcon", {"alibi": True}, "falcon .* share"),
    "biases by distance, elsewhere": ("Bloom", {"n_layer": 2, "n_head": 4}, "with a cache that"),
    "windows of its own": (
        "GPTNeo",
        {
            "num_layers": 2,
            "num_heads": 4,
            "window_size": 16,
            "attention_types": [[["global", "local"], 1]],
        },
        "gpt_neo .* other results for a prompt of 19 tokens",
    ),
    "a scale by the place in the cache": (
        "Llama4Text",
        {
            **KV,
            **MOE,
            "intermediate_size_mlp": 32,
            "floor_scale": 64,
            "attn_temperature_tuning": True,
        },
        "scales its attention from token 64 on",
    ),
}


def made(kind: str, sizes: Mapping[str, Any], folder: Path) -> Any:
    """A random model of a kind, saved."""
    import transformers

    config = getattr(transformers, f"{kind}Config")(**{**SIZES, **sizes})
    model = random_model(config)
    save(model, folder)
    return model


@pytest.mark.parametrize("what", RIGHT)
def test_prompts_given_together_are_as_each_alone(what: str, tmp_path: Path) -> None:
    kind, sizes = RIGHT[what]
    model = made(kind, sizes, tmp_path)
    with closing(opened(tmp_path)) as session:
        for prompts in (PROMPTS, PROMPTS[:2], PROMPTS[4:], PROMPTS[::-1]):
            for prompt, reply in zip(
                prompts, ask(session, prompts, Decoding("score", LABELS)), strict=True
            ):
                expected = [float(logprobs(model, prompt)[-1][token]) for [token] in LABELS]
                assert reply.label_logprobs == pytest.approx(expected, abs=1e-4), len(prompt)


@pytest.mark.parametrize("what", WRONG)
def test_a_model_that_looks_at_more_is_refused(what: str, tmp_path: Path) -> None:
    kind, sizes, reason = WRONG[what]
    made(kind, sizes, tmp_path)
    with pytest.raises(BackendError, match=reason) as caught:
        opened(tmp_path)
    assert caught.value.remedy
