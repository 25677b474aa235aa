"""What llama.cpp takes for a model, from the head of its file: weights, KV cache, buffers.

The rules are those of llama.cpp's `llama_kv_cache`, `llama_memory_recurrent` and `llama_hparams`,
with what `backends.llama_cpp.context` wants of them: one unified cache, full sliding windows.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from backends.api import MemoryPlan, ModelRef, Options
from backends.gguf import Head, read_head
from backends.gguf_shape import Shape
from backends.llama_cpp.backend import (
    BATCH_TOKENS,
    CACHE_TYPE_K,
    CACHE_TYPE_V,
    FLASH_ATTN,
    N_BATCH,
    N_GPU_LAYERS,
    N_UBATCH,
)
from backends.sharing.session import BRANCH_SLOTS, SEQUENCES

MIB = 2**20
_ROW = {"f32": (4, 1), "f16": (2, 1), "q8_0": (34, 32), "q4_0": (18, 32)}
"""Bytes of so many numbers, as the cache holds them."""

_PADDING = 256  # llama.cpp makes the context a multiple of it
_ENGINE_BYTES = 60 * MIB  # a worker with llama.cpp, a vocabulary and prompts; measured
_STATE_NUMBER_BYTES = 4  # recurrent states are float32


def predict(model: ModelRef, options: Options, tokens: int, on_gpu: bool) -> MemoryPlan | None:
    """`None` where the GPU gets some of the layers: they are then in two kinds of memory. Raises
    `BackendError` for a head that cannot be."""
    file = _head(model.location, model.name)
    shape = Shape(file, model.name)
    # The layer behind the last is the one that makes logits. -1 is for all.
    if on_gpu and 0 < (N_GPU_LAYERS.given(options) or 0) <= shape.layers:
        return None
    sequences = SEQUENCES + 1
    cells = -(-(tokens + BRANCH_SLOTS + 1) // _PADDING) * _PADDING
    kinds = CACHE_TYPE_K.of(options), CACHE_TYPE_V.of(options)
    token_bytes = sum(
        _row_bytes(numbers, kind)
        for layer in shape.cached_numbers
        for numbers, kind in zip(layer, kinds, strict=True)
    )
    state = shape.state_numbers * _STATE_NUMBER_BYTES * sequences
    logits = sequences * shape.vocabulary * 4
    places = _piece(options) * cells
    if FLASH_ATTN.given(options) == "off":
        # The mask is f32, and so are the scores of all heads. Nothing of them is needed any more
        # when the logits are computed.
        compute = max(logits, places * shape.query_heads * 4) + places * 4
    else:
        compute = logits + places * 2  # the mask of a piece in f16
    return MemoryPlan(
        tokens=tokens,
        weights_bytes=file.weights_bytes,
        cache_bytes=cells * token_bytes + state,
        token_bytes=token_bytes,
        compute_bytes=compute + logits,  # the logits for the caller
        engine_bytes=_ENGINE_BYTES,
        on_gpu=on_gpu,
    )


@lru_cache(maxsize=1)
def _head(location: str, name: str) -> Head:
    """Read once for all lengths: a vocabulary of 262,144 tokens takes a second to pass over."""
    return read_head(Path(location), name)


def _piece(options: Options) -> int:
    return N_UBATCH.given(options) or min(N_BATCH.given(options) or BATCH_TOKENS, BATCH_TOKENS)


def _row_bytes(numbers: int, kind: str) -> int:
    size, block = _ROW[kind]
    return -(-numbers // block) * size
