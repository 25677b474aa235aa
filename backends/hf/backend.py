"""Hugging Face transformers on CPU or CUDA, through `backends.sharing.session`."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from backends.api import Availability, BackendError, ModelRef, Options, Requirements, SessionInfo
from backends.rules import beyond_model, switch

if TYPE_CHECKING:
    from backends.sharing.session import SharedCacheSession

FORMATS = ("hf", "gguf")
OPTIONS: Mapping[str, str] = {
    "threads": "CPU threads (default: the cores this process may use)",
    "device": "cpu or cuda (default: cuda where there is one)",
    "dtype": "auto (bfloat16 where the hardware computes in it), float32, bfloat16 or float16",
    "trust_remote_code": "run the code that comes with a model (default: false)",
}
_NEEDED = ("torch", "transformers", "accelerate", "gguf")


def requirements(has_gpu: bool) -> Requirements:
    del has_gpu  # the same for both
    return Requirements(("accelerate>=1.10", "gguf>=0.17", "torch>=2.6", "transformers>=5.0,<6"))


def check() -> Availability:
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        return Availability(
            False,
            reason=f"{', '.join(missing)} not installed",
            remedy="pip install 'llm-harness[hf]'",
        )
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


def open_session(model: ModelRef, options: Options) -> SharedCacheSession:
    # Loading asks no network: what is not on this machine is an error, not a download. The hub's
    # client reads this when it is imported, so it stands before all else.
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    availability = check()
    if not availability.available:
        raise BackendError(availability.reason, availability.remedy)
    from backends.hf.context import HfContext
    from backends.hf.weights import folder_of
    from backends.sharing.session import BRANCH_CELLS, SEQUENCES, SharedCacheSession

    longest = int(options["max_model_len"])
    folder = folder_of(model, switch(options, "trust_remote_code"))
    context = HfContext(folder, options, longest + BRANCH_CELLS, SEQUENCES)
    if longest > context.declared_context:
        raise beyond_model(longest, context.declared_context, model.name)
    tokenizer = context.tokenizer
    info = SessionInfo(
        engine="transformers",
        engine_version=f"transformers {availability.version}",
        model=model.name,
        weights=context.description,
        device=str(context.device),
        threads=context.threads,
        declared_context=context.declared_context,
        allocated_context=longest,
        vocabulary_sha256=tokenizer.vocabulary_sha256(),
        bos_id=tokenizer.bos_id,
        bos_text=tokenizer.bos_text,
        eos_text=tokenizer.eos_text,
        chat_template=tokenizer.chat_template,
    )
    return SharedCacheSession(context, info)
