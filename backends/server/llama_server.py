"""`llama-server` of llama.cpp: token ids through /completion.

It reports what it had cached to the token, its own times, and the likeliest tokens by id: of those
the labels are taken, and of all tokens where one is not among them.
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
    ids,
    names,
    seconds,
    table,
    tables,
    whole,
)

NAME = "llama-server"
TITLE = "llama-server"
TAKES_IDS = True
LABEL_LOGPROBS: LabelLogprobs = "exact"
CAN_GIVE_ALL = True
CAN_IGNORE_END = True
HAS_SALT = False
CAN_START_COLD = True
MOST_AT_ONCE: int | None = None
_TOP = 100  # the whole vocabulary of 49,152 is 5.4 MB a reply
_ALL = 2**20  # more than any vocabulary has


async def recognise(client: Client) -> Facts | None:
    props = table(await client.get("/props"))
    settings = table(props.get("default_generation_settings"))
    if not settings:
        return None
    listed = table(await client.get("/v1/models"))
    template = props.get("chat_template")
    return Facts(
        version=f"llama.cpp {props.get('build_info') or 'of unknown version'}",
        models=names(listed.get("data"), "id"),
        context=whole(settings.get("n_ctx")),  # of one slot
        chat_template=template if isinstance(template, str) else None,
    )


async def context_of(client: Client, model: str, facts: Facts) -> int | None:
    del client, model
    return facts.context


async def tokenize(
    client: Client, model: str, text: str, special: bool = False
) -> list[int] | None:
    del model
    body = {"content": text, "add_special": special, "parse_special": True}
    return ids(table(await client.post("/tokenize", body)).get("tokens"))


async def detokenize(client: Client, model: str, token_ids: TokenIds) -> str | None:
    del model
    said = table(await client.post("/detokenize", {"tokens": list(token_ids)})).get("content")
    return said if isinstance(said, str) else None


def requests(ask: Ask) -> tuple[Request, ...]:
    return (
        Request(
            "/completion",
            {
                "prompt": list(ask.token_ids),
                "n_predict": ask.max_tokens,
                "temperature": ask.temperature,
                "stop": list(ask.stop),
                "seed": ask.seed % 2**31,
                # Its own defaults would change what is drawn.
                **{"top_k": 0, "top_p": 1.0, "min_p": 0.0, "typical_p": 1.0, "repeat_penalty": 1.0},
                "n_probs": (_ALL if ask.wants_all else _TOP) if ask.tokens else 0,
                "ignore_eos": ask.ignore_end,
                "return_tokens": True,
                "cache_prompt": not ask.cold,
                "stream": True,
            },
        ),
    )


def read(event: Mapping[str, Any], answer: Answer) -> None:
    text = event.get("content")
    written = ids(event.get("tokens")) or []
    answer.wrote = bool(text or written) and event.get("stop") is not True
    answer.text += text if isinstance(text, str) else ""
    answer.token_ids += written
    places = tables(event.get("completion_probabilities"))
    if places and not answer.logprobs:
        answer.logprobs = {
            one["id"]: float(one["logprob"])
            for one in tables(places[0].get("top_logprobs"))
            if whole(one.get("id")) is not None and isinstance(one.get("logprob"), int | float)
        }
    if event.get("stop") is True:
        answer.finish = "length" if event.get("stop_type") == "limit" else "stop"
        timings = table(event.get("timings"))
        answer.prompt_tokens = whole(event.get("tokens_evaluated"))
        answer.completion_tokens = whole(event.get("tokens_predicted"))
        answer.cached_tokens = whole(timings.get("cache_n"))
        answer.prefill_seconds = seconds(timings.get("prompt_ms"))
        answer.decode_seconds = seconds(timings.get("predicted_ms"))
