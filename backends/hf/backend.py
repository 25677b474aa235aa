"""Hugging Face transformers on CPU or CUDA, through `backends.sharing.session`."""

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
from backends.remedies import install_extra, reinstall
from backends.rules import BEYOND_MODEL, THREADS, TRUST_REMOTE_CODE, check_length
from backends.stages import say

if TYPE_CHECKING:
    from backends.hf.tokenizer import HfTokenizer
    from backends.sharing.session import SharedCacheSession

FORMATS = ("hf", "gguf")
DEVICE = Option(
    "device",
    str,
    "Where the model runs: cpu, cuda, or one of several GPUs, such as cuda:1. mps and xpu were not "
    "tried.",
    default_text="cuda where there is one",
)
DTYPE = Option(
    "dtype",
    str,
    "Number format of weights and activations; auto is bfloat16 where the hardware computes in it, "
    "else float32.",
    default="auto",
    choices=("auto", "float32", "bfloat16", "float16"),
)
OPTIONS = (THREADS, DEVICE, DTYPE, TRUST_REMOTE_CODE, BEYOND_MODEL)
# transformers reads a GGUF file with `accelerate` and `gguf` only.
_NEEDED = ("torch", "transformers", "accelerate", "gguf")
_PACKAGES = ("accelerate>=1.10", "gguf>=0.17", "torch>=2.6", "transformers>=5.0,<6")


def requirements(has_gpu: bool) -> Requirements:
    del has_gpu  # the same for both
    return Requirements(_PACKAGES)


def check() -> Availability:
    found = _importable()
    if not found.available:
        return found
    from backends.hf import devices

    return replace(
        found,
        build=devices.build(),
        devices=tuple(devices.described()),
        change=devices.change(),
    )


def _importable() -> Availability:
    if missing := _missing():
        return Availability(False, reason=missing, remedy=install_extra("hf", _PACKAGES))
    try:
        importlib.import_module("transformers")
        importlib.import_module("torch")
    except (ImportError, OSError, RuntimeError) as error:
        return Availability(
            False,
            reason=f"transformers cannot be imported: {error}",
            remedy=reinstall(_PACKAGES),
        )
    return Availability(True, version=importlib.metadata.version("transformers"))


def open_tokenizer(model: ModelRef, options: Options) -> HfTokenizer:
    _ask_no_network()
    if missing := _missing():
        raise BackendError(missing, install_extra("hf", _PACKAGES))
    from backends.hf.tokenizer import open_hf_tokenizer

    # Of no concern for a tokenizer. But a run opens all of them first, and what the session would
    # refuse is better refused before other engines have worked for hours. To import torch for it
    # takes seconds, and a CPU is always there.
    if (wanted := DEVICE.given(options)) not in (None, "cpu"):
        _check_device(wanted)
    return open_hf_tokenizer(model, TRUST_REMOTE_CODE.of(options))


def predict_memory(model: ModelRef, options: Options, tokens: int) -> MemoryPlan | None:
    """`None` where no weights are there, or their sizes are not known. Raises `BackendError` for
    files that cannot be right."""
    _ask_no_network()
    from backends.hf.memory import predict

    return predict(model, options, tokens)


def open_session(model: ModelRef, options: Options) -> SharedCacheSession:
    say("importing torch and transformers")
    _ask_no_network()
    availability = _importable()
    if not availability.available:
        raise BackendError(availability.reason, availability.remedy)
    _check_device(DEVICE.given(options))
    from backends.hf.checks import check_sharing
    from backends.hf.context import HfContext
    from backends.hf.tokenizer import load_tokenizer
    from backends.hf.weights import folder_of
    from backends.sharing.session import BRANCH_SLOTS, SEQUENCES, SharedCacheSession

    longest = int(options["max_model_len"])
    trusted = TRUST_REMOTE_CODE.of(options)
    say("looking at the model's files")
    folder = folder_of(model, trusted)
    say("reading the weights")
    tokenizer = load_tokenizer(model, folder, trusted)
    check_length(longest, tokenizer.info.declared_context, model.name, options)
    slots = longest + BRANCH_SLOTS
    context = HfContext(folder, model.name, tokenizer, options, slots, SEQUENCES)
    say("checking that prompts can share what they begin with")
    check_sharing(context, model.name, longest)
    info = SessionInfo(
        engine="transformers",
        engine_version=f"transformers {availability.version}",
        model=model.name,
        weights=context.description,
        device=str(context.device),
        threads=context.threads,
        allocated_context=longest,
        **asdict(tokenizer.info),
    )
    return SharedCacheSession(context, info)


def _check_device(wanted: str | None) -> None:
    """Raises `BackendError` where it is not there: before a GGUF file is converted."""
    from backends.hf.devices import device

    device(wanted)


def _ask_no_network() -> None:
    """What is not on this machine is an error, not a download. The hub's client reads this when
    it is imported."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")


def _missing() -> str:
    """What is not installed, in a clause; empty where all is there."""
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    return f"{', '.join(missing)} not installed" if missing else ""
