"""A tiny llama model with random weights as a GGUF file, or as one in several files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

WIDTH, HEADS, LAYERS = 64, 4, 2
Tensors = dict[str, NDArray[np.float32]]


def words() -> list[str]:
    """The bytes as GPT-2 writes them, one word of two, and the end of a text."""
    from tokenizers.pre_tokenizers import ByteLevel

    return [*sorted(ByteLevel.alphabet()), "ab", "<|im_end|>"]


def random_tensors() -> Tensors:
    random = np.random.default_rng(0)

    def weights(*shape: int) -> NDArray[np.float32]:
        return random.normal(scale=0.3, size=shape).astype(np.float32)

    made: Tensors = {"token_embd.weight": weights(len(words()), WIDTH)}
    for i in range(LAYERS):
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            made[f"blk.{i}.{name}.weight"] = weights(WIDTH, WIDTH)
        for name in ("ffn_gate", "ffn_up", "ffn_down"):
            made[f"blk.{i}.{name}.weight"] = weights(WIDTH, WIDTH)
        for name in ("attn_norm", "ffn_norm"):
            made[f"blk.{i}.{name}.weight"] = np.ones(WIDTH, np.float32)
    made["output_norm.weight"] = np.ones(WIDTH, np.float32)
    made["output.weight"] = weights(len(words()), WIDTH)
    return made


def write(
    path: Path,
    tensors: Tensors | None = None,
    architecture: str = "llama",
    head: Mapping[str, Any] | None = None,
) -> Path:
    """`head` are numbers and flags more, behind the architecture's name."""
    writer = _writer(path, architecture)
    _add_head(writer, architecture, head or {})
    _finish(writer, random_tensors() if tensors is None else tensors)
    return path


def write_parts(folder: Path, count: int = 3) -> list[Path]:
    """The files in their order; the first has the head."""
    tensors = list(random_tensors().items())
    size = -(-len(tensors) // count)
    paths = [folder / f"tiny-{i:05}-of-{count:05}.gguf" for i in range(1, count + 1)]
    for number, path in enumerate(paths):
        writer = _writer(path, "llama")
        if number == 0:
            _add_head(writer, "llama", {})
        writer.add_uint16("split.no", number)
        writer.add_uint16("split.count", count)
        writer.add_int32("split.tensors.count", len(tensors))
        _finish(writer, dict(tensors[number * size : (number + 1) * size]))
    return paths


def _writer(path: Path, architecture: str) -> Any:
    from gguf import GGUFWriter

    return GGUFWriter(path, architecture)


def _add_head(writer: Any, architecture: str, head: Mapping[str, Any]) -> None:
    writer.add_context_length(256)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(WIDTH)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    for key, value in head.items():
        add = writer.add_bool if isinstance(value, bool) else writer.add_uint32
        add(f"{architecture}.{key}", value)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(words())
    writer.add_token_types([1] * (len(words()) - 1) + [3])
    writer.add_token_merges(["a b"])
    writer.add_eos_token_id(len(words()) - 1)


def _finish(writer: Any, tensors: Tensors) -> None:
    for name, values in tensors.items():
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
