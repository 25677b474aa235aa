"""LM Studio, by its documentation: text only, no log-probabilities, no count of cached tokens."""

from __future__ import annotations

from backends.server import openai
from backends.server.client import Client
from backends.server.flavour import (
    Ask,
    Facts,
    LabelLogprobs,
    Request,
    names,
    table,
    tables,
    whole,
)

NAME = "lm-studio"
TITLE = "LM Studio"
TAKES_IDS = False
LABEL_LOGPROBS: LabelLogprobs = "none"
CAN_GIVE_ALL = False
CAN_IGNORE_END = False
HAS_SALT = False
CAN_START_COLD = False
MOST_AT_ONCE: int | None = None

_MODELS = "/api/v0/models"


async def recognise(client: Client) -> Facts | None:
    listed = table(await client.get(_MODELS)).get("data")
    if not any("state" in one for one in tables(listed)):
        return None
    writing = [one for one in tables(listed) if one.get("type") != "embeddings"]
    loaded = [one for one in writing if one.get("state") == "loaded"]
    return Facts("of unknown version", names(loaded or writing, "id"))


async def context_of(client: Client, model: str, facts: Facts) -> int | None:
    """What it has loaded the model with, which may be less than the model was made for."""
    del facts
    about = table(await client.get(f"{_MODELS}/{model}"))
    return whole(about.get("loaded_context_length")) or whole(about.get("max_context_length"))


tokenize = openai.tokenize
detokenize = openai.detokenize


def requests(ask: Ask) -> tuple[Request, ...]:
    return (Request("/v1/completions", openai.body(ask, ask.text, 0)),)


read = openai.read
