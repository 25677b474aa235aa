"""What a config.json says of how much a model holds of each token.

By the rules of transformers' own configurations, without importing them: that takes seconds.
Numbers that cannot be are refused: memory is predicted by them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from backends.api import BackendError
from backends.gguf import MOST_LAYERS
from backends.gguf_shape import MOST, PLAIN_KINDS

_FULL = "full_attention"
_WITH_KEYS = {_FULL, "sliding_attention", "chunked_attention"}
_WITHOUT = {"linear_attention", "mamba", "conv", "moe", "mlp", "dense", "sparse"}
"""Kinds of layers that hold nothing of a token. What others hold is not known."""
# What only configurations with recurrent layers, or with caches beside keys and values, state.
_SIGNS = (
    *("attn_type_list", "block_types", "compress_ratios", "conv_L_cache", "index_", "layer_group"),
    *("linear_attn", "linear_conv", "linear_key", "linear_num", "lru_", "mamba_", "rwkv"),
    *("ssm_", "state_size"),
)
_JAMBA_OFFSET = 4  # where config.json does not say it
_GLOBAL_HEAD = 512  # of Gemma 4, where config.json does not say it


@dataclass(frozen=True, slots=True)
class Held:
    """Numbers of a token: `cached` in all layers, `layer` in the one that attends to most, and
    `attended`, what all heads take there. `has_latent`: they are unfolded from one (MLA)."""

    cached: int
    layer: int
    attended: int
    has_latent: bool


def held_of(config: Mapping[str, Any], name: str) -> Held | None:
    """`None` where it is not known which layers hold keys and values. Raises `BackendError`, which
    calls the model `name`, for numbers that cannot be."""
    kinds = _kinds(config, name)
    if kinds is None:
        return None
    own = len(kinds) - min(count(config, "num_kv_shared_layers", name, 0), len(kinds))
    # Layers behind them take what these hold (Gemma 3n).
    found = [
        _layer_numbers(_of_layer(config, layer, kind, name), name)
        for layer, kind in enumerate(kinds[:own])
        if kind in _WITH_KEYS
    ]
    layer, attended = max(found, key=lambda numbers: numbers[1], default=(0, 0))
    cached = sum(numbers for numbers, _ in found)
    return Held(cached, layer, attended, bool(config.get("kv_lora_rank")))


def has_equal_layers(config: Mapping[str, Any]) -> bool:
    """As `Shape.has_equal_layers` of `backends.gguf_shape`."""
    if config.get("model_type") not in PLAIN_KINDS or config.get("per_layer_config"):
        return False
    kinds = config.get("layer_types")
    if isinstance(kinds, list):
        return all(kind in (_FULL, "attention") for kind in kinds)
    return not (config.get("sliding_window") and config.get("use_sliding_window", True))


def count(config: Mapping[str, Any], key: str, name: str, default: int | None = None) -> int:
    """Raises `BackendError` for what is no number that it can be: 0 is one if it is the default."""
    value = config.get(key)
    if value is None and default is not None:
        return default
    least = 0 if default == 0 else 1
    most = MOST_LAYERS if key == "num_hidden_layers" else MOST
    if type(value) is not int or not least <= value <= most:
        raise refused(name, f"config.json says that {key} is {str(value)[:40]}")
    return value


def refused(name: str, why: str) -> BackendError:
    return BackendError(f"the files of {name} cannot be right: {why}", "Fetch the model again.")


def _layer_numbers(config: Mapping[str, Any], name: str) -> tuple[int, int]:
    """Of a token in one layer: the numbers that are cached, and those of all heads."""
    heads = count(config, "num_attention_heads", name)
    if config.get("kv_lora_rank"):  # latent attention (MLA)
        turned = count(config, "qk_rope_head_dim", name)
        keys = count(config, "qk_nope_head_dim", name) + turned
        unfolded = heads * (keys + count(config, "v_head_dim", name))
        return count(config, "kv_lora_rank", name) + turned, unfolded
    of_cache = count(config, "num_key_value_heads", name, heads)
    width = count(config, "hidden_size", name) // heads
    of_head = 2 * count(config, "head_dim", name, width)
    return of_cache * of_head, heads * of_head


def _kinds(config: Mapping[str, Any], name: str) -> Sequence[str] | None:
    """Of each layer, in the words of transformers; `None` where one is not known."""
    layers = count(config, "num_hidden_layers", name)
    stated = config.get("layer_types") or config.get("layers_block_type")
    if (full := _full_layers(config, layers, name)) is not None:
        return [_FULL if layer in full else "linear_attention" for layer in range(layers)]
    if isinstance(stated, list):
        kinds = [_FULL if kind == "attention" else kind for kind in stated[:layers]]
        known = all(isinstance(kind, str) and kind in _WITH_KEYS | _WITHOUT for kind in kinds)
        return kinds if known else None
    has_signs = any(key.startswith(_SIGNS) for key in config)
    if config.get("model_type") == "falcon_h1":  # each layer has attention beside its state
        has_signs = False
    return None if has_signs or _is_gemma4(config) else [_FULL] * layers


def _full_layers(config: Mapping[str, Any], layers: int, name: str) -> set[int] | None:
    """Those with attention, of a hybrid that states them in a way of its own."""
    linear, pattern = config.get("linear_attn_config"), config.get("hybrid_override_pattern")
    if isinstance(linear, dict) and isinstance(listed := linear.get("full_attn_layers"), list):
        return {layer - 1 for layer in listed if type(layer) is int}  # Kimi Linear, from 1 on
    if config.get("layer_types") or config.get("layers_block_type"):
        return None
    if isinstance(pattern, str):  # Nemotron-H
        return {layer for layer, letter in enumerate(pattern) if letter == "*"}
    return _regular_layers(config, layers, name)


def _regular_layers(config: Mapping[str, Any], layers: int, name: str) -> set[int] | None:
    """The same by a list of numbers, or by how often they come."""
    for key in ("attn_layer_indices", "full_attn_idxs"):  # Bamba, LFM2
        if isinstance(listed := config.get(key), list):
            return {layer for layer in listed if type(layer) is int}
    if config.get("full_attention_interval"):  # Qwen3-Next: the last of each so many
        interval = count(config, "full_attention_interval", name)
        return set(range(interval - 1, layers, interval))
    # Of Zamba, the same names have another meaning.
    if config.get("model_type") == "jamba" and config.get("attn_layer_period"):
        period = count(config, "attn_layer_period", name)
        key = "attn_layer_offset"
        offset = count(config, key, name, 0) if key in config else _JAMBA_OFFSET
        return set(range(offset, layers, period))
    return None


def _of_layer(config: Mapping[str, Any], layer: int, kind: str, name: str) -> Mapping[str, Any]:
    """The configuration with the values that hold for this layer."""
    stated = config.get("per_layer_config")  # as transformers itself writes it
    if isinstance(stated, dict):
        values = stated.get(str(layer))
        return {**config, **values} if isinstance(values, dict) else config
    if kind != _FULL or not _is_gemma4(config):
        return config
    heads = config.get("num_global_key_value_heads") if config.get("attention_k_eq_v") else None
    own = {} if heads is None else {"num_key_value_heads": heads}
    return {**config, **own, "head_dim": count(config, "global_head_dim", name, _GLOBAL_HEAD)}


def _is_gemma4(config: Mapping[str, Any]) -> bool:
    return str(config.get("model_type")).startswith("gemma4")
