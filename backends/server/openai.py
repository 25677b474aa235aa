"""Any server with the completions API of OpenAI, of which nothing else is known; and what the
servers with it have in common.

Text goes out raw, to /v1/completions: nothing puts a chat template around it. The prompt's count of
tokens comes from `usage`. Log-probabilities are those of the five likeliest tokens, by text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from backends.api import TokenIds
from backends.server.client import Client
from backends.server.flavour import (
    Answer,
    Ask,
    Facts,
    LabelLogprobs,
    Request,
    names,
    table,
    tables,
    whole,
)

NAME = "openai"
TITLE = "OpenAI-compatible server"
TAKES_IDS = False
LABEL_LOGPROBS: LabelLogprobs = "top_k"
CAN_GIVE_ALL = False
CAN_IGNORE_END = False
HAS_SALT = False
CAN_START_COLD = False
MOST_AT_ONCE: int | None = None
TOP = 5  # OpenAI's own limit


async def recognise(client: Client) -> Facts | None:
    listed = table(await client.get("/v1/models"))
    return Facts("of unknown version", names(listed.get("data"), "id")) if listed else None


async def context_of(client: Client, model: str, facts: Facts) -> int | None:
    del client, model
    return facts.context


async def tokenize(
    client: Client, model: str, text: str, special: bool = False
) -> list[int] | None:
    del client, model, text, special
    return None


async def detokenize(client: Client, model: str, token_ids: TokenIds) -> str | None:
    del client, model, token_ids
    return None


def requests(ask: Ask) -> tuple[Request, ...]:
    return (Request("/v1/completions", body(ask, ask.text, TOP)),)


def body(ask: Ask, prompt: str | list[int], logprobs: int) -> dict[str, Any]:
    """What every server with this API understands."""
    return {
        "model": ask.model,
        "prompt": prompt,
        "max_tokens": ask.max_tokens,
        "temperature": ask.temperature,
        "stream": True,
        "stream_options": {"include_usage": True},
        **({"stop": list(ask.stop)} if ask.stop else {}),
        **({"seed": ask.seed, "top_p": 1.0} if ask.temperature > 0 else {}),
        **({"logprobs": logprobs} if ask.tokens else {}),
    }


def read(event: Mapping[str, Any], answer: Answer) -> None:
    answer.model = answer.model or str(event.get("model") or "")
    read_usage(event, answer)
    for choice in tables(event.get("choices"))[:1]:
        text = choice.get("text")
        delta = table(choice.get("delta"))  # some stream chunks of a chat for a completion, too
        text = text if isinstance(text, str) else delta.get("content")
        text = text if isinstance(text, str) else ""
        hidden = choice.get("reasoning_content") or delta.get("reasoning_content")
        tools = choice.get("tool_calls") or delta.get("tool_calls")
        if not answer.logprobs:
            answer.logprobs = top_logprobs(choice.get("logprobs"))
        answer.wrote = bool(text or hidden or tools)
        answer.text += text
        if choice.get("finish_reason"):
            answer.finish = "length" if choice["finish_reason"] == "length" else "stop"


def read_usage(event: Mapping[str, Any], answer: Answer) -> None:
    usage = table(event.get("usage"))
    if usage:
        answer.prompt_tokens = whole(usage.get("prompt_tokens"))
        answer.completion_tokens = whole(usage.get("completion_tokens"))
        details = table(usage.get("prompt_tokens_details"))
        answer.cached_tokens = whole(details.get("cached_tokens"))


def top_logprobs(value: object) -> dict[int | str, float]:
    """Of the first token, by text."""
    tops = table(value).get("top_logprobs")
    first = table(tops[0]) if isinstance(tops, list) and tops else {}
    return {
        text: float(logprob)
        for text, logprob in first.items()
        if isinstance(logprob, int | float) and not isinstance(logprob, bool)
    }
