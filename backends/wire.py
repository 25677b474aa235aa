"""How records travel between harness and worker: JSON in `multiprocessing.connection` frames.

Prompts of one voter differ in their last tokens only, so lists of prompts (or texts) are written
front-coded: how much each shares with the one before it, then the rest.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from multiprocessing.connection import Connection
from typing import Any, TypeAlias

from backends.api import Batch, Event, Progress, Reply, Started
from backends.sharing.prefix_tree import common_prefix_length

Message: TypeAlias = dict[str, Any]

_EVENTS: dict[str, type[Event]] = {"started": Started, "progress": Progress, "batch": Batch}
_NAMES = {kind: name for name, kind in _EVENTS.items()}


def send(connection: Connection[Any, Any], message: Message) -> None:
    connection.send_bytes(json.dumps(message, separators=(",", ":")).encode())


def receive(connection: Connection[Any, Any]) -> Message:
    """The next record. Raises `EOFError` when the other side has closed."""
    message = json.loads(connection.recv_bytes())
    if not isinstance(message, dict):
        raise ValueError("a record on the wire is a JSON object")
    return message


def front_code(items: Sequence[Sequence[int]]) -> list[list[int]]:
    """Each list as [tokens shared with the one before, *the rest]."""
    coded: list[list[int]] = []
    before: Sequence[int] = ()
    for item in items:
        shared = common_prefix_length(before, item)
        coded.append([shared, *item[shared:]])
        before = item
    return coded


def front_decode(coded: Iterable[Sequence[int]]) -> list[list[int]]:
    """The inverse of `front_code`."""
    items: list[list[int]] = []
    before: list[int] = []
    for shared, *rest in coded:
        before = before[:shared] + rest
        items.append(before)
    return items


def encode_event(event: Event) -> Message:
    return {"event": _NAMES[type(event)], **asdict(event)}


def decode_event(message: Message) -> Event:
    fields = dict(message)
    kind = _EVENTS[fields.pop("event")]
    if kind is Batch:
        fields["replies"] = tuple(_reply(reply) for reply in fields["replies"])
    elif kind is Started:
        fields["prompts"] = tuple(fields["prompts"])
    return kind(**fields)


def _reply(fields: Message) -> Reply:
    logprobs = fields["label_logprobs"]
    return Reply(
        **{
            **fields,
            "token_ids": tuple(fields["token_ids"]),
            "label_logprobs": None if logprobs is None else tuple(logprobs),
        }
    )
