"""vLLM's OpenAI server: token ids through /v1/completions, and the log-probabilities of exactly the
tokens that are wanted. What it has cached it shares by whole blocks, and reports with
--enable-prompt-tokens-details. A salt of its own makes each session cold."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from backends.api import TokenIds
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
    whole,
)

NAME = "vllm"
TITLE = "vLLM server"
TAKES_IDS = True
LABEL_LOGPROBS: LabelLogprobs = "exact"
CAN_GIVE_ALL = False
CAN_IGNORE_END = True
HAS_SALT = True
CAN_START_COLD = True
MOST_AT_ONCE: int | None = None
_BLOCK = re.compile(r'^vllm:cache_config_info\{(?:.*,)?block_size="([1-9]\d{0,5})"', re.MULTILINE)


async def recognise(client: Client) -> Facts | None:
    listed = tables(table(await client.get("/v1/models")).get("data"))
    if not any(one.get("owned_by") == "vllm" for one in listed):
        return None
    version = table(await client.get("/version")).get("version")
    lengths = [whole(one.get("max_model_len")) for one in listed]
    block = _BLOCK.search(await client.text("/metrics"))
    return Facts(
        version=f"vllm {version or 'of unknown version'}",
        models=names(listed, "id"),
        context=lengths[0],
        block_tokens=int(block[1]) if block else 1,
    )


async def context_of(client: Client, model: str, facts: Facts) -> int | None:
    del client, model
    return facts.context


async def tokenize(
    client: Client, model: str, text: str, special: bool = False
) -> list[int] | None:
    body = {"model": model, "prompt": text, "add_special_tokens": special}
    return ids(table(await client.post("/tokenize", body)).get("tokens"))


async def detokenize(client: Client, model: str, token_ids: TokenIds) -> str | None:
    said = table(await client.post("/detokenize", {"model": model, "tokens": list(token_ids)})).get(
        "prompt"
    )
    return said if isinstance(said, str) else None


def requests(ask: Ask) -> tuple[Request, ...]:
    wanted = {"logprob_token_ids": sorted(ask.tokens)} if ask.tokens else {}
    return (
        Request(
            "/v1/completions",
            {
                **openai.body(ask, list(ask.token_ids), 1),
                **wanted,
                "ignore_eos": ask.ignore_end,
                "return_token_ids": True,
                # Texts of tokens are not unique.
                "return_tokens_as_token_ids": True,
                "cache_salt": ask.salt,
            },
        ),
    )


def read(event: Mapping[str, Any], answer: Answer) -> None:
    openai.read(event, answer)
    for choice in tables(event.get("choices"))[:1]:
        written = ids(choice.get("token_ids")) or []
        answer.token_ids += written
        answer.wrote = answer.wrote or bool(written)
    prefix = "token_id:"
    answer.logprobs = {
        int(key.removeprefix(prefix))
        if isinstance(key, str) and key.startswith(prefix) and key[len(prefix) :].isdecimal()
        else key: logprob
        for key, logprob in answer.logprobs.items()
    }
