"""SGLang, by its documentation: token ids through /generate, with the log-probabilities of given
tokens and the count of what was cached."""

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
    table,
    whole,
)

NAME = "sglang"
TITLE = "SGLang"
TAKES_IDS = True
LABEL_LOGPROBS: LabelLogprobs = "exact"
CAN_GIVE_ALL = False
CAN_IGNORE_END = True
HAS_SALT = False
CAN_START_COLD = False
MOST_AT_ONCE: int | None = None


async def recognise(client: Client) -> Facts | None:
    about = table(await client.get("/get_model_info"))
    if "model_path" not in about:
        return None
    server = table(await client.get("/get_server_info"))
    name = server.get("served_model_name") or about["model_path"]
    return Facts(
        version=f"sglang {server.get('version') or 'of unknown version'}",
        models=(str(name),),
        context=whole(server.get("context_length")),
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
        "text"
    )
    return said if isinstance(said, str) else None


def requests(ask: Ask) -> tuple[Request, ...]:
    return (
        Request(
            "/generate",
            {
                "input_ids": list(ask.token_ids),
                "sampling_params": {
                    "max_new_tokens": ask.max_tokens,
                    "temperature": ask.temperature,
                    "ignore_eos": ask.ignore_end,
                    **({"stop": list(ask.stop)} if ask.stop else {}),
                    **({"sampling_seed": ask.seed % 2**31} if ask.temperature > 0 else {}),
                },
                "stream": True,
                **(
                    {"return_logprob": True, "logprob_start_len": -1}
                    | {"token_ids_logprob": sorted(ask.tokens)}
                    if ask.tokens
                    else {}
                ),
            },
        ),
    )


def read(event: Mapping[str, Any], answer: Answer) -> None:
    """Each piece has the whole text so far."""
    text, meta = event.get("text"), table(event.get("meta_info"))
    before = len(answer.text), len(answer.token_ids)
    if isinstance(text, str):
        answer.text = text
    if written := ids(event.get("output_ids")):
        answer.token_ids = written
    answer.wrote = (len(answer.text), len(answer.token_ids)) > before
    answer.prompt_tokens = whole(meta.get("prompt_tokens"))
    answer.completion_tokens = whole(meta.get("completion_tokens"))
    answer.cached_tokens = whole(meta.get("cached_tokens"))
    places = meta.get("output_token_ids_logprobs")
    if isinstance(places, list) and places and not answer.logprobs:
        # Of each token: [log-probability, id, text]
        answer.logprobs = {
            one[1]: float(one[0])
            for one in places[0] or ()
            if isinstance(one, list) and len(one) >= 2 and isinstance(one[0], int | float)
        }
    if ended := meta.get("finish_reason"):
        kind = table(ended).get("type") or ended
        answer.finish = "length" if kind == "length" else "stop"
