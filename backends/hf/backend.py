"""Hugging Face transformers on CPU or CUDA, through `backends.sharing.session`."""

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
    from backends.sharing.session import SharedCacheSession

FORMATS = ("hf", "gguf")
OPTIONS: Mapping[str, str] = {
    "threads": "CPU threads (default: the cores this process may use)",
    "device": "cpu or cuda (default: cuda where there is one)",
    "dtype": "auto (bfloat16 where the hardware computes in it), float32, bfloat16 or float16",
    "trust_remote_code": "run the code that comes with a model (default: false)",
}
_NEEDED = ("torch", "transformers", "accelerate", "gguf")
_INSTALL = "pip install 'llm-harness[hf]'"


def requirements(has_gpu: bool) -> Requirements:
    del has_gpu  # the same for both
    return Requirements(("accelerate>=1.10", "gguf>=0.17", "torch>=2.6", "transformers>=5.0,<6"))


def check() -> Availability:
    if missing := _missing():
        return Availability(False, reason=missing, remedy=_INSTALL)
    try:
        importlib.import_module("transformers")
        importlib.import_module("torch")
    except (ImportError, OSError, RuntimeError) as error:
        return Availability(
            False,
            reason=f"transformers cannot be imported: {error}",
            remedy="pip install --force-reinstall 'llm-harness[hf]'",
        )
    return Availability(True, version=importlib.metadata.version("transformers"))


def open_tokenizer(model: ModelRef, options: Options) -> HfTokenizer:
    _ask_no_network()
    if missing := _missing():
        raise BackendError(missing, _INSTALL)
    from backends.hf.tokenizer import open_hf_tokenizer

    return open_hf_tokenizer(model, switch(options, "trust_remote_code"))


def open_session(model: ModelRef, options: Options) -> SharedCacheSession:
    _ask_no_network()
    availability = check()
    if not availability.available:
        raise BackendError(availability.reason, availability.remedy)
    from backends.hf.checks import check_sharing
    from backends.hf.context import HfContext
    from backends.hf.tokenizer import load_tokenizer
    from backends.hf.weights import folder_of
    from backends.sharing.session import BRANCH_CELLS, SEQUENCES, SharedCacheSession

    longest = int(options["max_model_len"])
    trusted = switch(options, "trust_remote_code")
    folder = folder_of(model, trusted)
    tokenizer = load_tokenizer(model, folder, trusted)
    declared = tokenizer.info.declared_context
    if longest > declared:
        raise beyond_model(longest, declared, model.name)
    cells = longest + BRANCH_CELLS
    context = HfContext(folder, model.name, tokenizer, options, cells, SEQUENCES)
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


def _ask_no_network() -> None:
    """What is not on this machine is an error, not a download. The hub's client reads this when
    it is imported."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")


def _missing() -> str:
    """What is not installed, in a clause; empty where all is there."""
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    return f"{', '.join(missing)} not installed" if missing else ""
