"""Ollama, by its documentation: text only, through /api/generate with `raw`, which puts no template
around it.

It cuts a prompt that is longer than its window and says so nowhere but in `prompt_eval_count`, so
the window is given with each request. Log-probabilities are those of the 20 likeliest tokens.
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
    names,
    seconds,
    table,
    tables,
    whole,
)

NAME = "ollama"
TITLE = "Ollama"
TAKES_IDS = False
LABEL_LOGPROBS: LabelLogprobs = "top_k"
CAN_GIVE_ALL = False
CAN_IGNORE_END = False
HAS_SALT = False
CAN_START_COLD = False
MOST_AT_ONCE: int | None = None
_TOP = 20
_NANOSECONDS = 1e6  # in a millisecond


async def recognise(client: Client) -> Facts | None:
    tags = table(await client.get("/api/tags"))
    if not isinstance(tags.get("models"), list):
        return None
    version = table(await client.get("/api/version")).get("version")
    return Facts(f"ollama {version}", names(tags["models"], "name"))


async def context_of(client: Client, model: str, facts: Facts) -> int | None:
    del facts
    about = table(table(await client.post("/api/show", {"model": model})).get("model_info"))
    lengths = [value for key, value in about.items() if key.endswith(".context_length")]
    return whole(lengths[0]) if lengths else None


tokenize = openai.tokenize
detokenize = openai.detokenize


def requests(ask: Ask) -> tuple[Request, ...]:
    return (
        Request(
            "/api/generate",
            {
                "model": ask.model,
                "prompt": ask.text,
                "raw": True,
                "stream": True,
                "options": {
                    "num_ctx": ask.window,
                    "num_predict": ask.max_tokens,
                    "temperature": ask.temperature,
                    "seed": ask.seed % 2**31,
                    "top_k": 0,
                    "top_p": 1.0,
                    "min_p": 0.0,
                    "repeat_penalty": 1.0,
                    **({"stop": list(ask.stop)} if ask.stop else {}),
                },
                **({"logprobs": True, "top_logprobs": _TOP} if ask.tokens else {}),
            },
        ),
    )


def read(event: Mapping[str, Any], answer: Answer) -> None:
    answer.model = answer.model or str(event.get("model") or "")
    text = event.get("response")
    text = text if isinstance(text, str) else ""
    answer.wrote = bool(text or event.get("thinking"))
    answer.text += text
    places = tables(event.get("logprobs"))
    if places and not answer.logprobs:
        answer.logprobs = {
            str(one.get("token")): float(one["logprob"])
            for one in tables(places[0].get("top_logprobs"))
            if isinstance(one.get("logprob"), int | float)
        }
    if event.get("done") is True:
        answer.finish = "length" if event.get("done_reason") == "length" else "stop"
        answer.prompt_tokens = whole(event.get("prompt_eval_count"))
        answer.completion_tokens = whole(event.get("eval_count"))
        answer.prefill_seconds = _seconds(event.get("prompt_eval_duration"))
        answer.decode_seconds = _seconds(event.get("eval_duration"))


def _seconds(nanoseconds: object) -> float | None:
    return seconds(nanoseconds / _NANOSECONDS) if isinstance(nanoseconds, int | float) else None
