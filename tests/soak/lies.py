"""A backend that sends one wrong record, of the kind that its model's name says (test_records.py).

It is the mock, and lies where the worker sends: a lie changes a message, or replaces it by bytes.
Once the file that `LIES_HEALED` names is there, it tells the truth. Standard library only, as
whatever a worker imports.
"""

from __future__ import annotations

import json
import math
import os
import struct
import sys
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from backends import mock, wire
from backends.api import Availability, ModelRef, Options

FORMATS, OPTIONS, requirements = mock.FORMATS, mock.OPTIONS, mock.requirements

Change = Callable[[dict[str, Any]], "bytes | None"]


@dataclass(frozen=True)
class Lie:
    """`place`: the message that is changed. `said`: what the reason has to name."""

    place: str
    change: Change
    said: str


def check() -> Availability:
    return mock.check()


def open_tokenizer(model: ModelRef, options: Options) -> mock.MockTokenizer:
    _lie(model.name, ("tokenizer", "tokenized", "named"))
    return mock.open_tokenizer(model, options)


def open_session(model: ModelRef, options: Options) -> mock.MockSession:
    _lie(model.name, ("info", "batch", "started", "progress", "end"))
    return Session(model, options)


class Session(mock.MockSession):
    """Its clock is ours, so it need not pass for a mock."""

    def __init__(self, model: ModelRef, options: Options) -> None:
        super().__init__(model, options)
        self.info = replace(self.info, is_mock=False)


def _lie(name: str, places: Sequence[str]) -> None:
    lie = LIES.get(name)
    if lie is None or lie.place not in places or Path(os.environ["LIES_HEALED"]).exists():
        return
    honest, batches = wire.send, 0

    def send(connection: Any, message: dict[str, Any], *more: Any) -> None:
        nonlocal batches
        place = _place(message)
        batches += place == "batch"
        is_first_batch = place == "batch" and batches == 1
        if place != lie.place or is_first_batch:
            honest(connection, message, *more)
            return
        sent = lie.change(message)
        if sent is None:
            honest(connection, message, *more)
        else:
            connection.sendall(sent)

    vars(wire)["send"] = send


def _place(message: dict[str, Any]) -> str:
    if event := message.get("event"):
        return str(event)
    if "seconds" in message:
        return "info"
    if "shared" in message:
        return "tokenized"
    if isinstance(message.get("result"), dict):
        return "tokenizer"
    return "named" if isinstance(message.get("result"), list) else "end"


def frame(head: bytes, body: bytes = b"") -> bytes:
    return struct.pack("<II", len(head), len(body)) + head + body


def values(**changes: Any) -> Change:
    return lambda message: message.update(changes)


def without(name: str) -> Change:
    def change(message: dict[str, Any]) -> None:
        del message[name]

    return change


def reply(**changes: Any) -> Change:
    return lambda message: message["replies"][0].update(changes)


def reply_without(name: str) -> Change:
    return lambda message: message["replies"][0].pop(name) and None


def result(**changes: Any) -> Change:
    return lambda message: message["result"].update(changes)


def result_without(name: str) -> Change:
    def change(message: dict[str, Any]) -> None:
        del message["result"][name]

    return change


def can(**changes: Any) -> Change:
    return lambda message: message["result"]["capabilities"].update(changes)


def raw(text: Callable[[dict[str, Any]], str]) -> Change:
    """The message's JSON as another text, its arrays as they are."""

    def change(message: dict[str, Any]) -> bytes:
        arrays = {name: one for name, one in message.items() if isinstance(one, array)}
        plain: dict[str, Any] = {n: v for n, v in message.items() if n not in arrays}
        plain["arrays"] = {name: len(one) for name, one in arrays.items()}
        head = text(plain).encode("utf-8", errors="surrogatepass")
        return frame(head, b"".join(one.tobytes() for one in arrays.values()))

    return change


def more_time(message: dict[str, Any]) -> None:
    message["ended"] = message["began"] + 1e6


def twice(message: dict[str, Any]) -> None:
    message["replies"][1] = dict(message["replies"][0])


def ids(message: dict[str, Any], own: list[int]) -> None:
    """Other ids for the first reply."""
    items = [own, *wire.front_decode(message)[1:]]
    message.update(wire.front_code(items))


def to_array(name: str, *numbers: int) -> Change:
    return lambda message: message.update({name: array("i", numbers)})


def add_list(message: dict[str, Any]) -> None:
    message.update(wire.front_code([*wire.front_decode(message), [1]]))


HUGE = 10**400
DEEP = "[" * 100_000 + "]" * 100_000
LONG = "a" * 30_000_000
NAN, INF = math.nan, math.inf

LIES: dict[str, Lie] = {}
wrong: Any


def of(place: str, said: str, **changes: Change) -> None:
    for name, change in changes.items():
        LIES[f"{place}-{name}".replace("_", "-")] = Lie(place, change, said)


# numbers of a batch
for field in ("prefill_tokens", "decode_tokens"):
    for kind, wrong in (("negative", -1189), ("float", 1.5), ("text", "4"), ("bool", True),
                        ("huge", HUGE), ("too_many", 10**9), ("list", [1])):  # fmt: skip
        of("batch", rf"batch\.{field}", **{f"{field}_{kind}": values(**{field: wrong})})
for field in ("prefill_seconds", "decode_seconds"):
    for kind, wrong in (("negative", -0.5), ("nan", "nan"), ("inf", "inf"), ("text", "1"),
                        ("too_long", 1e9)):  # fmt: skip
        of("batch", field, **{f"{field}_{kind}": values(**{field: wrong})})
of("batch", r"batch\.prefill_seconds", prefill_in_no_time=values(prefill_seconds=0.0))
for field in ("began", "ended"):
    for kind, wrong in (("nan", "nan"), ("inf", "inf"), ("text", "soon"), ("null", None),
                        ("huge", HUGE)):  # fmt: skip
        of("batch", rf"batch\.{field}", **{f"{field}_{kind}": values(**{field: wrong})})
of("batch", r"batch\.ended", ended_before=values(ended=-1e9), ended_much_later=more_time)
for field in ("began", "replies", "decode_tokens", "shared", "ids"):
    said = rf"batch\.{field}"
    of("batch", said, **{f"without_{field}": without(field)})
of("batch", r"batch\.extra", extra=values(extra=1))
of("batch", "event", unknown_event=values(event="token"), event_list=values(event=["batch"]))
of("batch", r"batch\.replies", replies_object=values(replies={}), no_replies=values(replies=[]))
of("batch", "reply: not a JSON object", replies_numbers=lambda m: m.update(
    replies=[1] * len(m["replies"])))  # fmt: skip
# its replies
for field in ("prompt_tokens", "cached_tokens"):
    for kind, wrong in (("negative", -1), ("float", 0.5), ("text", "a"), ("huge", HUGE),
                        ("more", 99_999)):  # fmt: skip
        of("batch", rf"reply\.{field}", **{f"{field}_{kind}": reply(**{field: wrong})})
for field in ("time_to_first_token_ms", "time_per_output_token_ms"):
    for kind, wrong in (("negative", -1.0), ("nan", "nan"), ("inf", "inf"), ("list", [])):
        of("batch", rf"reply\.{field}", **{f"{field}_{kind}": reply(**{field: wrong})})
of("batch", r"reply\.time_to_first_token_ms", first_token_late=reply(time_to_first_token_ms=1e9))
of("batch", r"reply\.prompt", prompt_unknown=reply(prompt=99_999), prompt_negative=reply(prompt=-1),
   prompt_null=reply(prompt=None), prompt_bool=reply(prompt=True), two_replies=twice,
   answered_before=reply(prompt=0))  # fmt: skip
of("batch", r"reply\.finish", finish_unknown=reply(finish="done"), finish_null=reply(finish=None),
   finish_list=reply(finish=["stop"]), finish_of_another_mode=reply(finish="scored"))  # fmt: skip
of("batch", r"reply\.text", text_null=reply(text=None), text_number=reply(text=1),
   text_of_30_MB=reply(text=LONG),
   failed_for_no_reason=reply(finish="failed", text=""))  # fmt: skip
for field in ("prompt", "text", "finish", "label_logprobs"):
    of("batch", rf"reply\.{field}", **{f"reply_without_{field}": reply_without(field)})
of("batch", r"reply\.score", reply_extra=reply(score=1))
of("batch", r"reply\.label_logprobs", logprobs_few=reply(label_logprobs=[-1.0]),
   logprobs_many=reply(label_logprobs=[-1.0] * 3), logprobs_positive=reply(label_logprobs=[1, -1]),
   logprobs_text=reply(label_logprobs=["low", -1]), logprobs_number=reply(label_logprobs=0.5),
   logprobs_deep=reply(label_logprobs=[[-1.0], -1.0]), logprobs_huge=reply(
       label_logprobs=[-HUGE, -1]))  # fmt: skip
of("batch", "not finite", logprobs_nan=reply(label_logprobs=["nan", -1.0]),
   logprobs_inf=reply(label_logprobs=[-1.0, "inf"]))  # fmt: skip
of("batch", r"reply\.token_ids", too_many_tokens=lambda m: ids(m, [65] * 5000))
of("batch", r"reply\.token_ids: 999 is", beyond=lambda m: m["ids"].__setitem__(0, 999))
of("batch", "ids: a number below 0", negative_token=lambda m: m["ids"].__setitem__(0, -1))
of("batch", "following|shared|ids", following_wrong=to_array("following", 1),
   shared_beyond=to_array("shared", *[9] * 4), shared_negative=to_array("shared", *[-1] * 4),
   ids_as_json=values(ids=[1]))  # fmt: skip
# the frame
of("batch", "not JSON|no number|twice|JSON object|lengths", json_nan=raw(
       lambda m: json.dumps(m).replace('"prefill_tokens": ', '"prefill_tokens": NaN, "x": ')),
   json_infinity=raw(lambda m: json.dumps({**m, "began": INF})),
   json_list=raw(lambda m: json.dumps([m])), json_text=raw(lambda m: '"batch"'),
   json_number=raw(lambda m: "1"), json_null=raw(lambda m: "null"), json_empty=raw(lambda m: ""),
   json_cut=raw(lambda m: json.dumps(m)[:-1]), json_and_more=raw(lambda m: json.dumps(m) + "{}"),
   json_twice=raw(lambda m: '{"event": "batch", ' + json.dumps(m)[1:]),
   json_deep=raw(lambda m: json.dumps(m)[:-1] + f', "deep": {DEEP}}}'),
   json_digits=raw(lambda m: json.dumps(m)[:-1] + f', "long": {"9" * 9999}}}'),
   surrogates=raw(lambda m: json.dumps(m)[:-1] + ', "text": "\ud800"}'),
   arrays_null=raw(lambda m: json.dumps({**m, "arrays": None})),
   arrays_long=raw(lambda m: json.dumps({**m, "arrays": {"ids": 2**40}})),
   arrays_negative=raw(lambda m: json.dumps({**m, "arrays": {"ids": -1}})))  # fmt: skip
of("batch", "not JSON|more than", not_utf_8=lambda m: frame(b'{"event": "\xff\xfe"}'),
   utf_16=lambda m: frame('{"arrays": {}}'.encode("utf-16")),
   garbage=lambda m: os.urandom(4) + b"\xff" * 4000,
   frame_of_4_GB=lambda m: struct.pack("<II", 2**32 - 1, 2**32 - 1),
   words_on_the_socket=lambda m: b"Traceback (most recent call last):\n" * 99)  # fmt: skip
# that they have begun, that they live, and that all is done
of("started", r"started\.prompts", null=values(prompts=None), unknown=values(prompts=[99_999]),
   negative=values(prompts=[-1]), texts=values(prompts=["0"]), twice=values(prompts=[0, 0]),
   missing=without("prompts"))  # fmt: skip
of("started", r"started\.more", more=values(more=1))
of("progress", r"progress\.prompt_tokens", negative=values(prompt_tokens=-1),
   nan=values(prompt_tokens="nan"), null=values(prompt_tokens=None), float=values(
       prompt_tokens=0.5), too_many=values(prompt_tokens=10**9), missing=without(
           "prompt_tokens"))  # fmt: skip
of("end", "no reply|request", number_missing=without("request"), number=values(request=99))
# what was opened
of("info", "vocabulary_size|bos_id", few_tokens=result(vocabulary_size=200), no_tokens=result(
    vocabulary_size=0))  # fmt: skip
for field in ("threads", "allocated_context", "declared_context", "shared_block_tokens", "bos_id"):
    for kind, wrong in (("negative", -5), ("text", "8"), ("huge", HUGE), ("float", 1.5)):
        of("info", field, **{f"{field}_{kind}": result(**{field: wrong})})
for field in ("engine", "device", "weights", "chat_template", "vocabulary_sha256", "eos_text"):
    for kind, wrong in (("number", 7), ("surrogate", "\ud800"), ("of_30_MB", LONG)):
        of("info", field, **{f"{field}_{kind}": result(**{field: wrong})})
of("info", "vocabulary", no_vocabulary=result(vocabulary_sha256=""), another_vocabulary=result(
    vocabulary_sha256="0" * 64))  # fmt: skip
of("info", "allocated", allocated_0=result(allocated_context=0), allocated_less=result(
    allocated_context=5))  # fmt: skip
of("info", "declared_context", declared_0=result(declared_context=0))
of("info", "device", two_lines=result(device="a\nb"), colours=result(device="\x1b[31mred"))
of("info", "is_mock", is_mock_1=result(is_mock=1))
of("info", "Capabilities", clock=can(clock="wall"), forget=can(can_forget="no"), more=can(more=1))
of("info", "capabilities|Capabilities", capabilities_null=result(capabilities=None))
of("info", "opened.seconds", seconds_negative=values(seconds=-1.0), seconds_null=values(
    seconds=None))  # fmt: skip
of("info", "SessionInfo", info_null=values(result=None), info_list=values(result=[]))
of("info", "SessionInfo.device", without_device=result_without("device"))
of("info", "SessionInfo.more", with_more=result(more=1))
# the tokenizer, without which nothing can be packed for the entry
of("tokenizer", r"TokenizerInfo\.declared_context", negative=result(declared_context=-1),
   text=result(declared_context="8"), zero=result(declared_context=0))  # fmt: skip
of("tokenizer", r"TokenizerInfo\.vocabulary_sha256", no_vocabulary=result(vocabulary_sha256=""))
of("tokenizer", r"TokenizerInfo\.bos_id", bos_id=result(bos_id=-1), bos_huge=result(bos_id=2**31))
of("tokenizer", r"TokenizerInfo\.vocabulary_size", none=result(vocabulary_size=0), size=result(
    vocabulary_size="258"))  # fmt: skip
of("tokenizer", r"TokenizerInfo\.bos_id", few=result(vocabulary_size=200))
of("tokenizer", r"TokenizerInfo\.chat_template", template=result(chat_template=LONG))
of("tokenizer", "TokenizerInfo", null=values(result=None), more=result(more=1),
   missing=result_without("eos_text"))  # fmt: skip
of("tokenized", "lists of ids", one_more=add_list)
of("tokenized", "shared|following|ids", negative=to_array("ids", -1), empty=without("ids"))
of("tokenized", "ids: 999 is none of the 258", beyond=lambda m: m["ids"].__setitem__(0, 999))

if __name__ == "__main__":
    sys.stdout.write("\n".join([*LIES, f"{len(LIES)} kinds\n"]))
