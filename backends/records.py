"""The records of the wire: how events are written, and what is checked of each where it arrives.

What a worker sends is not trusted to be right: an engine, or a third party's backend, may report
what makes no sense, and a figure made of that would look like any other. A record that is wrong
raises `backends.wire.WireError`, which names the field. Standard library only.

Times and counts are not negative, and no number is NaN or infinite, with one exception: the
log-probability of a label that is impossible is minus infinity. JSON has no such number, so the
text "-inf" stands for it. Any other number that is not finite is sent as its text too, and refused;
in label log-probabilities it is the engine's computation that is wrong and not its record, so that
reply has failed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Sequence
from dataclasses import asdict, fields
from typing import Any, NoReturn, get_args

from backends.api import (
    Allocated,
    Availability,
    Batch,
    Capabilities,
    Event,
    Finding,
    FindingKind,
    Finish,
    MemoryPlan,
    Progress,
    Reply,
    SessionInfo,
    Side,
    Started,
    TokenizerInfo,
)
from backends.rules import LOGPROB_ROUNDING, NOT_FINITE
from backends.stages import MOST_CHARACTERS
from backends.wire import Message, WireError, front_code, front_decode

_NOT_FINITE = ("-inf", "inf", "nan")  # as `_number` writes them
_NAME_CHARACTERS = 10_000  # a model's name may be a path
_TEMPLATE_CHARACTERS = 2**20  # those of models have some thousands
_SHA256 = re.compile("[0-9a-f]{64}")
_BEYOND = 2**63  # JSON has whole numbers of any size, what stores them has not
_FINISHES: tuple[str, ...] = get_args(Finish)
_FINDINGS: tuple[str, ...] = get_args(FindingKind)
_SIDES: tuple[str, ...] = get_args(Side)
_CHOICES: dict[str, tuple[str, ...]] = {
    "prompts": ("token_ids", "text"),
    "label_logprobs": ("exact", "top_k", "none"),
    "clock": ("engine", "client"),
    "location": ("local", "remote"),
}


def encode_event(event: Event) -> Message:
    """{"event": "started" | "progress" | "batch" | "finding", ..}; a batch has its replies' ids in
    arrays."""
    if isinstance(event, Started):
        return {"event": "started", "prompts": list(event.prompts)}
    if isinstance(event, Progress):
        return {"event": "progress", "prompt_tokens": event.prompt_tokens}
    if isinstance(event, Finding):
        return {"event": "finding", "finding": asdict(event)}
    return {
        "event": "batch",
        "replies": [_encode_reply(reply) for reply in event.replies],
        "began": _number(event.began),
        "ended": _number(event.ended),
        "prefill_tokens": event.prefill_tokens,
        "prefill_seconds": _number(event.prefill_seconds),
        "decode_tokens": event.decode_tokens,
        "decode_seconds": _number(event.decode_seconds),
        **front_code([reply.token_ids for reply in event.replies]),
    }


def decode_event(message: Message, prompts: int, labels: int) -> Event:
    """The event of a call with so many prompts and labels. Raises `WireError`."""
    kind = message.get("event")
    if kind == "started":
        record = _Record("started", message, ("event", "prompts"))
        return Started(
            tuple(record.index("prompts", one, prompts) for one in record.list("prompts"))
        )
    if kind == "progress":
        return Progress(
            _Record("progress", message, ("event", "prompt_tokens")).count("prompt_tokens")
        )
    if kind == "finding":
        return _decode_finding(_Record("finding", message, ("event", "finding")).values["finding"])
    if kind != "batch":
        raise WireError(f"event: {kind!r} is none that there is")
    record = _Record("batch", message, _BATCH)
    replies, token_ids = record.list("replies"), front_decode(message)
    if len(replies) != len(token_ids):
        raise WireError(f"batch.replies: {len(replies)} with the ids of {len(token_ids)}")
    began, ended = record.number("began"), record.number("ended")
    # The difference of two finite numbers can be infinite.
    if not 0 <= ended - began < math.inf:
        record.refuse("ended", f"at or behind began ({began}), by a finite time")
    return Batch(
        replies=tuple(
            _decode_reply(reply, tuple(ids), prompts, labels)
            for reply, ids in zip(replies, token_ids, strict=True)
        ),
        began=began,
        ended=ended,
        prefill_tokens=record.count_or_none("prefill_tokens"),
        prefill_seconds=record.amount_or_none("prefill_seconds"),
        decode_tokens=record.count_or_none("decode_tokens"),
        decode_seconds=record.amount_or_none("decode_seconds"),
    )


def decode_session_info(value: object) -> SessionInfo:
    """Of what `dataclasses.asdict` made of it. Raises `WireError`, as all of these do."""
    record = _Record.of(SessionInfo, value)
    can = _Record.of(Capabilities, record.values["capabilities"])
    return SessionInfo(
        engine=record.name("engine"),
        engine_version=record.name("engine_version"),
        model=record.name("model"),
        weights=record.name("weights"),
        device=record.name("device"),
        **_tokenizer_fields(record),
        threads=record.count("threads"),
        allocated_context=record.count("allocated_context", least=1),
        shared_block_tokens=record.count("shared_block_tokens", least=1),
        is_mock=record.flag("is_mock"),
        capabilities=Capabilities(
            **{name: can.one_of(name, choices) for name, choices in _CHOICES.items()},
            can_forget=can.flag("can_forget"),
            can_ignore_end=can.flag("can_ignore_end"),
        ),
        findings=tuple(map(_decode_finding, record.list("findings"))),
    )


def _decode_finding(value: object) -> Finding:
    record = _Record.of(Finding, value)
    return Finding(
        kind=record.one_of("kind", _FINDINGS),
        declared=record.count_or_none("declared"),
        seen=record.count_or_none("seen"),
        side=record.one_of("side", _SIDES),
        at_once=record.count_or_none("at_once"),
        requests=record.count_or_none("requests"),
        seconds=record.amount_or_none("seconds"),
    )


def decode_tokenizer_info(value: object) -> TokenizerInfo:
    return TokenizerInfo(**_tokenizer_fields(_Record.of(TokenizerInfo, value)))


def decode_availability(value: object) -> Availability:
    record = _Record.of(Availability, value)
    return Availability(
        available=record.flag("available"),
        version=record.text("version"),
        reason=record.text("reason"),
        remedy=record.text("remedy"),
        is_mock=record.flag("is_mock"),
        build=record.text("build"),
        devices=record.texts("devices"),
        change=record.text("change"),
    )


def decode_memory_plans(value: object, tokens: Sequence[int]) -> list[MemoryPlan] | None:
    """One for each number of tokens; `None` of a backend that predicts nothing."""
    if value is None:
        return None
    if not isinstance(value, list) or len(value) != len(tokens):
        raise WireError(f"memory plans: not a list of {len(tokens)}")
    plans = []
    for one, count in zip(value, tokens, strict=True):
        record = _Record.of(MemoryPlan, one)
        if record.count("tokens") != count:
            record.refuse("tokens", f"the {count} that were wanted")
        is_fixed = record.text("cache_option") or record.values["cache_tokens"] is not None
        plans.append(
            MemoryPlan(
                tokens=count,
                weights_bytes=record.count("weights_bytes"),
                cache_bytes=record.count("cache_bytes"),
                token_bytes=record.count("token_bytes"),
                compute_bytes=record.count("compute_bytes"),
                engine_bytes=record.count("engine_bytes"),
                on_gpu=record.flag("on_gpu"),
                cache_tokens=record.count_or_none("cache_tokens"),
                cache_option=record.name("cache_option") if is_fixed else "",
            )
        )
    return plans


def decode_allocated(value: object) -> Allocated:
    """With nothing in it of a session that does not say."""
    if value is None:
        return Allocated()
    record = _Record.of(Allocated, value)
    return Allocated(
        cache_bytes=record.count_or_none("cache_bytes"),
        compute_bytes=record.count_or_none("compute_bytes"),
    )


def decode_seconds(message: Message) -> float:
    """The time of loading that comes with a session's info."""
    record = _Record("opened", message, ("result", "seconds"))
    return record.amount("seconds")


def decode_stage(message: Message) -> str:
    """What a backend says that it is doing while it loads."""
    record = _Record("stage", message, ("event", "stage"))
    stage = record.name("stage")
    return stage if len(stage) <= MOST_CHARACTERS else record.refuse("stage", "a few words")


def decode_token_texts(value: object, count: int) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise WireError("token texts: not a list of texts")
    if len(value) != count:
        raise WireError(f"token texts: {len(value)} for {count} tokens")
    if not all(len(text) <= _NAME_CHARACTERS and _is_whole(text) for text in value):
        raise WireError(f"token texts: one is no text of at most {_NAME_CHARACTERS} characters")
    return value


def check_ids(field: str, ids: Sequence[int], vocabulary_size: int | None) -> None:
    """Raises `WireError` for an id that is none of the vocabulary."""
    largest = max(ids, default=-1)
    if vocabulary_size is not None and largest >= vocabulary_size:
        raise WireError(f"{field}: {largest} is none of the {vocabulary_size} tokens")


class _Record:
    """The values of a record, each taken as what it has to be. All methods raise `WireError`."""

    def __init__(self, name: str, value: object, names: Collection[str]) -> None:
        if not isinstance(value, dict):
            raise WireError(f"{name}: not a JSON object")
        for field in sorted(value.keys() ^ set(names)):
            said = "there is no such field" if field in value else "missing"
            raise WireError(f"{name}.{field}: {said}")
        self._name = name
        self.values: dict[str, Any] = value

    @classmethod
    def of(cls, kind: type, value: object) -> _Record:
        """With the fields of a dataclass."""
        return cls(kind.__name__, value, [field.name for field in fields(kind)])

    def refuse(self, field: str, wanted: str) -> NoReturn:
        raise WireError(f"{self._name}.{field}: {self.values[field]!r:.80} is not {wanted}")

    def text(self, field: str) -> str:
        value = self.values[field]
        return value if isinstance(value, str) else self.refuse(field, "a text")

    def whole_text(self, field: str, most: int) -> str:
        """A text that can be stored and shown."""
        value = self.text(field)
        if not _is_whole(value):
            self.refuse(field, "a text of whole characters")
        return value if len(value) <= most else self.refuse(field, f"at most {most} characters")

    def name(self, field: str) -> str:
        """It stands in tables, on one line."""
        value = self.whole_text(field, _NAME_CHARACTERS)
        return value if value.isprintable() and value else self.refuse(field, "a line of text")

    def text_or_none(self, field: str, most: int) -> str | None:
        return None if self.values[field] is None else self.whole_text(field, most)

    def sha256(self, field: str) -> str:
        value = self.text(field)
        return value if _SHA256.fullmatch(value) else self.refuse(field, "a SHA-256 in hexadecimal")

    def flag(self, field: str) -> bool:
        value = self.values[field]
        return value if isinstance(value, bool) else self.refuse(field, "true or false")

    def one_of(self, field: str, choices: Collection[str]) -> Any:
        value = self.values[field]
        return value if value in choices else self.refuse(field, f"one of {', '.join(choices)}")

    def count(self, field: str, least: int = 0) -> int:
        value = self.values[field]
        # In Python, `True` is an instance of `int`.
        if type(value) is not int or not least <= value < _BEYOND:
            self.refuse(field, f"a whole number of {least} or more")
        return value

    def count_or_none(self, field: str, least: int = 0) -> int | None:
        return None if self.values[field] is None else self.count(field, least)

    def token_or_none(self, field: str, vocabulary_size: int | None) -> int | None:
        value = self.count_or_none(field)
        if value is not None and value >= 2**31:
            self.refuse(field, "a token id of 32 bits")
        if value is not None and vocabulary_size is not None and value >= vocabulary_size:
            self.refuse(field, f"one of the {vocabulary_size} tokens")
        return value

    def number(self, field: str) -> float:
        value = self.values[field]
        return float(value) if _is_number(value) else self.refuse(field, "a finite number")

    def amount(self, field: str) -> float:
        value = self.number(field)
        return value if value >= 0 else self.refuse(field, "0 or more")

    def amount_or_none(self, field: str) -> float | None:
        return None if self.values[field] is None else self.amount(field)

    def list(self, field: str) -> list[Any]:
        value = self.values[field]
        return value if isinstance(value, list) else self.refuse(field, "a list")

    def texts(self, field: str) -> tuple[str, ...]:
        value: Any = self.values[field]
        is_right = isinstance(value, list) and all(isinstance(one, str) for one in value)
        return tuple(value) if is_right else self.refuse(field, "a list of texts")

    def index(self, field: str, value: object, length: int) -> int:
        """One of the prompts of a call, of which there are so many."""
        if type(value) is not int or not 0 <= value < length:
            raise WireError(f"{self._name}.{field}: {value!r:.80} is none of the {length} prompts")
        return value


_BATCH = (*(field.name for field in fields(Batch)), "event", "shared", "following", "ids")
_REPLY = tuple(field.name for field in fields(Reply) if field.name != "token_ids")


def _encode_reply(reply: Reply) -> Message:
    logprobs = reply.label_logprobs
    return {
        "prompt": reply.prompt,
        "finish": reply.finish,
        "prompt_tokens": reply.prompt_tokens,
        "cached_tokens": reply.cached_tokens,
        "text": reply.text,
        "label_logprobs": None if logprobs is None else [_number(one) for one in logprobs],
        "time_to_first_token_ms": _number(reply.time_to_first_token_ms),
        "time_per_output_token_ms": _number(reply.time_per_output_token_ms),
    }


def _decode_reply(value: object, token_ids: tuple[int, ...], prompts: int, labels: int) -> Reply:
    record = _Record("reply", value, _REPLY)
    prompt_tokens = record.count("prompt_tokens")
    cached_tokens = record.count_or_none("cached_tokens")
    if cached_tokens is not None and cached_tokens > prompt_tokens:
        record.refuse("cached_tokens", f"within the {prompt_tokens} tokens of the prompt")
    reply = Reply(
        prompt=record.index("prompt", record.values["prompt"], prompts),
        finish=record.one_of("finish", _FINISHES),
        prompt_tokens=prompt_tokens,
        cached_tokens=cached_tokens,
        text=record.text("text"),
        token_ids=token_ids,
        label_logprobs=_decode_logprobs(record, labels),
        time_to_first_token_ms=record.amount_or_none("time_to_first_token_ms"),
        time_per_output_token_ms=record.amount_or_none("time_per_output_token_ms"),
    )
    if reply.finish == "failed" and not reply.text.strip():
        record.refuse("text", "the reason of a reply that failed")
    # Infinity and NaN: neither is less than infinity.
    if any(one is not None and not one < math.inf for one in reply.label_logprobs or ()):
        return Reply(reply.prompt, "failed", prompt_tokens, cached_tokens, NOT_FINITE)
    return reply


def _decode_logprobs(record: _Record, labels: int) -> tuple[float | None, ...] | None:
    """With NaN and infinity, which are the engine's own, and no fault of the record."""
    if record.values["label_logprobs"] is None:
        return None
    sent = record.list("label_logprobs")
    if len(sent) != labels:
        record.refuse("label_logprobs", f"as many as the {labels} labels")
    logprobs = tuple(
        float(one) if isinstance(one, str) and one in _NOT_FINITE else one for one in sent
    )
    if not all(one is None or type(one) is float or _is_number(one) for one in logprobs):
        record.refuse("label_logprobs", f"a list of numbers, null and {', '.join(_NOT_FINITE)}")
    if any(one is not None and LOGPROB_ROUNDING < one < math.inf for one in logprobs):
        record.refuse("label_logprobs", "a list of logarithms of probabilities")
    return logprobs


def _tokenizer_fields(record: _Record) -> dict[str, Any]:
    """What `TokenizerInfo` and `SessionInfo` have in common."""
    return {
        "declared_context": record.count("declared_context", least=1),
        "vocabulary_sha256": record.sha256("vocabulary_sha256"),
        "vocabulary_size": (size := record.count_or_none("vocabulary_size", least=1)),
        "bos_id": record.token_or_none("bos_id", size),
        "bos_text": record.whole_text("bos_text", _NAME_CHARACTERS),
        "eos_text": record.whole_text("eos_text", _NAME_CHARACTERS),
        "chat_template": record.text_or_none("chat_template", _TEMPLATE_CHARACTERS),
        "rope_scaling": record.whole_text("rope_scaling", _NAME_CHARACTERS),
    }


def _number(value: float | None) -> float | str | None:
    """As JSON can have it."""
    return value if value is None or math.isfinite(value) else str(value)


def _is_whole(text: str) -> bool:
    """Whether it can be stored and shown: half of a surrogate pair has no UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_number(value: object) -> bool:
    if type(value) is int:
        return abs(value) < _BEYOND
    return type(value) is float and math.isfinite(value)
