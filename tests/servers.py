"""Real servers for tests: each of those that can run here, on a port of the loopback."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from backends.hf.weights import folder_of
from backends.server.managed import ManagedServer, filled, free_port
from backends.server.presets import Wanted, llama_cpp_server, llama_server
from harness.engine.interpreters import own_environment
from harness.engine.models import resolve_model
from harness.testing.conformance.options import Candidate, candidate_of

MODEL = "smollm2-135m"
CONTEXT = 256  # the look at a server takes several prompts as long as that


class NotHereError(Exception):
    """It cannot run here, for this reason."""


@contextmanager
def candidate(name: str) -> Iterator[Candidate]:
    """For the suite of conformance; one that cannot run here skips its tests."""
    try:
        # Room for a token behind the longest prompt, as a score of it takes one.
        with serving(name, MODEL, CONTEXT + 1) as url:
            yield candidate_of("server", MODEL, {"url": url, "max_model_len": CONTEXT})
    except NotHereError as error:
        pytest.skip(f"{name} is not tested: {error}")


@contextmanager
def serving(name: str, model: str, context: int) -> Iterator[str]:
    """The url of a server that is ready. Raises `NotHereError`."""
    server = start(name, model, context, free_port())
    try:
        server.wait_until_ready()
        yield server.url
    finally:
        server.close()


def start(name: str, model: str, context: int, port: int) -> ManagedServer:
    """Not waited for. Raises `NotHereError`."""
    wanted = Wanted(resolve_model(model, ("gguf",), {}), context, 1, 1, enforce_eager=True)
    if name == "vllm-server":
        command = _vllm(wanted)
    else:
        preset = {"llama-server": llama_server, "llama_cpp.server": llama_cpp_server}[name](wanted)
        if preset is None:
            raise NotHereError("there is none on the PATH or in the cache; see docs/SERVERS.md")
        command = preset.command
    values = {"model": wanted.model.location, "port": port, "threads": 1, "context": context}
    return ManagedServer(filled(command, values), port, {"HF_HUB_OFFLINE": "1"})


def _vllm(wanted: Wanted) -> tuple[str, ...]:
    """As `server:vllm` starts it, but from here, where vLLM is not."""
    environment = own_environment("vllm")
    if not environment.is_whole:
        raise NotHereError("`harness backends install vllm` was not run")
    return (
        *(str(environment.python), "-m", "vllm.entrypoints.openai.api_server"),
        *("--model", folder_of(wanted.model), "--served-model-name", wanted.name),
        *("--host", "127.0.0.1", "--port", "{port}", "--max-model-len", str(wanted.context)),
        *("--enforce-eager", "--enable-prompt-tokens-details", "--dtype", "float32"),
        *("--block-size", "32", "--kv-cache-memory-bytes", str(2**30)),
    )
