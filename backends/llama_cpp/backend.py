"""llama.cpp through llama-cpp-python's low-level API (`backends.llama_cpp.context`).

Its unified KV cache, in which a token belongs to any number of sequences, is what
`backends.sharing.session` wants.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from backends.api import (
    Availability,
    BackendError,
    MemoryPlan,
    ModelRef,
    Option,
    Options,
    Requirements,
    SessionInfo,
)
from backends.remedies import install_extra, reinstall
from backends.rules import BEYOND_MODEL, THREADS
from backends.stages import say

if TYPE_CHECKING:
    from backends.llama_cpp.tokenizer import LlamaTokenizer
    from backends.sharing.session import SharedCacheSession

FORMATS = ("gguf",)
N_GPU_LAYERS = Option(
    "n_gpu_layers",
    int,
    "Layers of the model on the GPU; -1 for all.",
    default_text="all if llama.cpp sees a GPU, else none",
    least=-1,
)
MAIN_GPU = Option(
    "main_gpu",
    int,
    "The one GPU that holds the whole model, counted from 0.",
    default_text="all GPUs share the model",
    least=0,
)
TENSOR_SPLIT = Option(
    "tensor_split",
    str,
    "Shares of the model on each GPU, such as 3,1.",
    default_text="by the free memory of each",
    pattern=r"(?=.*[1-9])\d{1,9}(\.\d{1,9})?(,\d{1,9}(\.\d{1,9})?)*",
    pattern_text="numbers of 0 or more, not all 0, with commas between them, such as 3,1",
)
BATCH_TOKENS = 512  # llama.cpp's own default of n_ubatch
_LEAST_BATCH, _MOST_BATCH = 32, 65536
N_BATCH = Option(
    "n_batch",
    int,
    "Most tokens of one call into llama.cpp; several GPUs work on its pieces at the same time.",
    default_text=f"{BATCH_TOKENS}, or n_ubatch where that is more",
    unit="tokens",
    least=_LEAST_BATCH,
    most=_MOST_BATCH,
)
N_UBATCH = Option(
    "n_ubatch",
    int,
    "Most tokens that are evaluated at once, the size of a call's pieces. Below 128, a CPU takes a "
    "slower way.",
    default_text=f"{BATCH_TOKENS}, or n_batch where that is less",
    unit="tokens",
    least=_LEAST_BATCH,
    most=_MOST_BATCH,
)
NO_MMAP = Option(
    "no_mmap",
    bool,
    "Read the model's file into memory, and do not map it: for files on slow or remote disks.",
    default=False,
)
FLASH_ATTN = Option(
    "flash_attn",
    str,
    "Flash attention.",
    default_text="on for a CPU, auto for a GPU",
    choices=("auto", "on", "off"),
)
_CACHE_TYPES = ("f32", "f16", "q8_0", "q4_0")
CACHE_TYPE_K = Option(
    "cache_type_k", str, "Number format of the KV cache's keys.", "f16", choices=_CACHE_TYPES
)
CACHE_TYPE_V = Option(
    "cache_type_v", str, "Number format of the KV cache's values.", "f16", choices=_CACHE_TYPES
)
OPTIONS = (
    THREADS,
    N_GPU_LAYERS,
    MAIN_GPU,
    TENSOR_SPLIT,
    N_BATCH,
    N_UBATCH,
    NO_MMAP,
    FLASH_ATTN,
    CACHE_TYPE_K,
    CACHE_TYPE_V,
    BEYOND_MODEL,
)
PACKAGES = ("llama-cpp-python>=0.3.36,<0.4",)


def requirements(has_gpu: bool) -> Requirements:
    del has_gpu  # the same for both
    return Requirements(PACKAGES)


def check() -> Availability:
    found = _importable()
    if not found.available:
        return found
    from backends.llama_cpp import devices

    return replace(
        found,
        build=devices.build(),
        devices=tuple(map(str, devices.devices())),
        change=devices.change(),
    )


def _importable() -> Availability:
    if importlib.util.find_spec("llama_cpp") is None:
        return Availability(
            False,
            reason="llama-cpp-python is not installed",
            remedy=install_extra("llama-cpp", PACKAGES),
        )
    try:
        importlib.import_module("llama_cpp")
    except (ImportError, OSError, RuntimeError) as error:  # its library may lack one of its own
        return Availability(
            False,
            reason=f"llama-cpp-python cannot be imported: {error}",
            remedy=reinstall(PACKAGES),
        )
    return Availability(True, version=importlib.metadata.version("llama-cpp-python"))


def open_tokenizer(model: ModelRef, options: Options) -> LlamaTokenizer:
    _refuse_unavailable(_importable())
    from backends.llama_cpp.context import batch_tokens
    from backends.llama_cpp.devices import check_options
    from backends.llama_cpp.tokenizer import open_vocabulary

    # None of them concerns tokens. But a run opens all tokenizers first, and what the session would
    # refuse is better refused before other engines have worked for hours.
    check_options(options)
    batch_tokens(options)
    return open_vocabulary(model)


def predict_memory(model: ModelRef, options: Options, tokens: int) -> MemoryPlan | None:
    """`None` where only some layers are on a GPU. Raises `BackendError` for a file whose head
    cannot be."""
    _refuse_unavailable(_importable())
    from backends.llama_cpp.devices import used
    from backends.llama_cpp.memory import predict

    on_gpu = bool(N_GPU_LAYERS.given(options) != 0 and used(options))
    return predict(model, options, tokens, on_gpu)


def open_session(model: ModelRef, options: Options) -> SharedCacheSession:
    availability = _importable()
    _refuse_unavailable(availability)
    from backends.llama_cpp.context import LlamaContext
    from backends.llama_cpp.devices import check_options, used
    from backends.sharing.session import BRANCH_SLOTS, SEQUENCES, SharedCacheSession

    check_options(options)
    longest = int(options["max_model_len"])
    say("reading the weights")
    context = LlamaContext(model, options, longest, longest + BRANCH_SLOTS, SEQUENCES)
    info = SessionInfo(
        engine="llama.cpp",
        engine_version=f"llama-cpp-python {availability.version}",
        model=model.name,
        weights=f"{context.description} GGUF",
        device=", ".join(gpu.title for gpu in used(options)) if context.uses_gpu else "cpu",
        threads=context.threads,
        allocated_context=longest,
        **asdict(context.tokenizer.info),
    )
    return SharedCacheSession(context, info)


def _refuse_unavailable(availability: Availability) -> None:
    if not availability.available:
        raise BackendError(availability.reason, availability.remedy)
