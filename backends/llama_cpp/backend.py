"""llama.cpp through llama-cpp-python's low-level API (`backends.llama_cpp.context`).

Its unified KV cache, in which a token belongs to any number of sequences, is what
`backends.sharing.session` wants.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
from dataclasses import asdict
from typing import TYPE_CHECKING

from backends.api import (
    Availability,
    BackendError,
    ModelRef,
    Option,
    Options,
    Requirements,
    SessionInfo,
)
from backends.remedies import install_extra, reinstall
from backends.rules import THREADS
from backends.stages import say

if TYPE_CHECKING:
    from backends.llama_cpp.tokenizer import LlamaTokenizer
    from backends.sharing.session import SharedCacheSession

FORMATS = ("gguf",)
N_GPU_LAYERS = Option(
    "n_gpu_layers",
    int,
    "Layers of the model on the GPU; -1 for all.",
    default_text="all if llama.cpp was built for a GPU, else none",
    least=-1,
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
OPTIONS = (THREADS, N_GPU_LAYERS, FLASH_ATTN, CACHE_TYPE_K, CACHE_TYPE_V)
_PACKAGES = ("llama-cpp-python>=0.3.36,<0.4",)


def requirements(has_gpu: bool) -> Requirements:
    del has_gpu  # the same for both
    return Requirements(_PACKAGES)


def check() -> Availability:
    if importlib.util.find_spec("llama_cpp") is None:
        return Availability(
            False,
            reason="llama-cpp-python is not installed",
            remedy=install_extra("llama-cpp", _PACKAGES),
        )
    try:
        importlib.import_module("llama_cpp")
    except (ImportError, OSError, RuntimeError) as error:  # its library may lack one of its own
        return Availability(
            False,
            reason=f"llama-cpp-python cannot be imported: {error}",
            remedy=reinstall(_PACKAGES),
        )
    return Availability(True, version=importlib.metadata.version("llama-cpp-python"))


def open_tokenizer(model: ModelRef, options: Options) -> LlamaTokenizer:
    del options  # none of them concerns tokens
    _refuse_unavailable(check())
    from backends.llama_cpp.tokenizer import open_vocabulary

    return open_vocabulary(model)


def open_session(model: ModelRef, options: Options) -> SharedCacheSession:
    availability = check()
    _refuse_unavailable(availability)
    from backends.llama_cpp.context import LlamaContext
    from backends.sharing.session import BRANCH_SLOTS, SEQUENCES, SharedCacheSession

    longest = int(options["max_model_len"])
    say("reading the weights")
    context = LlamaContext(model, options, longest, longest + BRANCH_SLOTS, SEQUENCES)
    info = SessionInfo(
        engine="llama.cpp",
        engine_version=f"llama-cpp-python {availability.version}",
        model=model.name,
        weights=f"{context.description} GGUF",
        device="gpu" if context.uses_gpu else "cpu",
        threads=context.threads,
        allocated_context=longest,
        **asdict(context.tokenizer.info),
    )
    return SharedCacheSession(context, info)


def _refuse_unavailable(availability: Availability) -> None:
    if not availability.available:
        raise BackendError(availability.reason, availability.remedy)
