"""Which server it is, and which of its models: by what it says of itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from backends.api import BackendError, ModelRef
from backends.server import (
    llama_cpp_server,
    llama_server,
    lm_studio,
    ollama,
    openai,
    sglang,
    vllm_server,
)
from backends.server.client import Client
from backends.server.flavour import Facts, Flavour

# Those that can be recognised for certain come first; the last is whatever has the API.
FLAVOURS: tuple[Flavour, ...] = (
    llama_server,
    vllm_server,
    sglang,
    lm_studio,
    ollama,
    llama_cpp_server,
    openai,
)
_OLLAMA = "ollama:"  # before the names of Ollama's models, as the harness has them


@dataclass(frozen=True, slots=True)
class Found:
    """A server, and the name that it has for the model."""

    flavour: Flavour
    facts: Facts
    model: str
    context: int | None


async def find(client: Client, flavour: str, served: str, model: ModelRef) -> Found:
    """By what it says, unless its `flavour` is given. Raises `BackendError`."""
    for one in FLAVOURS:
        if flavour not in ("", one.NAME):
            continue
        if facts := await one.recognise(client):
            name = _chosen(client, facts, served, model)
            return Found(one, facts, name, await one.context_of(client, name, facts))
    what = f"is no {flavour}" if flavour else "has no API that is known here"
    raise BackendError(
        f"{client.host} {what}",
        "Give the url of a server with OpenAI's completions API, such as http://127.0.0.1:8000; "
        "the url of a proxy's page is none.",
    )


def _chosen(client: Client, facts: Facts, served: str, model: ModelRef) -> str:
    """The one that is named, or the only one, or the one that is called as our model is."""
    if not facts.models:
        raise BackendError(f"{client.host} serves no model", "Load one there.")
    if served:
        if served not in facts.models:
            raise BackendError(
                f"{client.host} serves no model {served!r}, but {_listed(facts.models)}",
                "Give one of these as served_model.",
            )
        return served
    if len(facts.models) == 1:
        return facts.models[0]
    name = model.name.removeprefix(_OLLAMA)
    called = {name, Path(name).name, Path(name).stem}
    alike = [one for one in facts.models if one in called or one.removesuffix(":latest") in called]
    if len(alike) != 1:
        raise BackendError(
            f"{client.host} serves several models: {_listed(facts.models)}",
            "Say which is meant: served_model = NAME.",
        )
    return alike[0]


_MOST_LISTED = 8


def _listed(models: tuple[str, ...]) -> str:
    more = len(models) - _MOST_LISTED
    return ", ".join(models[:_MOST_LISTED]) + (f" and {more} more" if more > 0 else "")
