"""`python -m llama_cpp.server` of llama-cpp-python.

It takes text and no ids, adds the BOS token where the model wants one, and refuses what is too
long. Its streams have no `usage`, so no count of the prompt's tokens, and are broken off where
another request comes (`interrupt_requests`): one at a time. With --logits_all it reports the
likeliest tokens by text: of those the labels are taken, and of all tokens where one is not among
them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from backends.server import openai
from backends.server.client import Client
from backends.server.flavour import (
    Answer,
    Ask,
    Facts,
    LabelLogprobs,
    Request,
    ids,
    names,
    table,
    tables,
)

NAME = "llama_cpp.server"
TITLE = "llama_cpp.server"
TAKES_IDS = False
LABEL_LOGPROBS: LabelLogprobs = "exact"
CAN_GIVE_ALL = True
CAN_IGNORE_END = False
HAS_SALT = False
CAN_START_COLD = False
MOST_AT_ONCE: int | None = 1  # it breaks off a stream where another request comes
_TOP = 100  # to name all tokens of a vocabulary of 49,152 takes it seconds
_ALL = 2**20  # more than any vocabulary has


async def recognise(client: Client) -> Facts | None:
    listed = table(await client.get("/v1/models"))
    if not any(one.get("owned_by") == "me" for one in tables(listed.get("data"))):
        return None
    about = table(table(await client.get("/openapi.json")).get("info"))
    if "llama.cpp" not in str(about.get("title")):
        return None
    return Facts(f"llama-cpp-python {about.get('version')}", names(listed.get("data"), "id"))


context_of = openai.context_of


async def tokenize(
    client: Client, model: str, text: str, special: bool = False
) -> list[int] | None:
    del model, special
    # It parses special tokens, and puts BOS first where the model wants one.
    return ids(table(await client.post("/extras/tokenize", {"input": text})).get("tokens"))


detokenize = openai.detokenize


def requests(ask: Ask) -> tuple[Request, ...]:
    """The reply comes whole, as only then its `usage` comes with it. Log-probabilities are wanted
    before, of a stream: for a whole reply they are made of every place of the context, which
    takes longer than the prompt. The second request finds the prompt evaluated."""
    body = openai.body(ask, ask.text, _ALL if ask.wants_all else _TOP)
    # Its own defaults would change what is drawn.
    body |= {"top_k": 0, "min_p": 0.0, "repeat_penalty": 1.0, "stream_options": None}
    first = {**body, "max_tokens": 1, "stop": None, "temperature": 0.0}
    reply = {**body, "logprobs": None, "stream": False}
    bodies = [first, reply] if ask.tokens else [reply]
    return tuple(Request("/v1/completions", one) for one in bodies)


def read(event: Mapping[str, Any], answer: Answer) -> None:
    openai.read(event, answer)
    if "usage" in event:
        answer.wrote = False  # all came at once: that is not when the first token came
