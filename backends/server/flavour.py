"""What a kind of server is to us: how it is prompted, and how its answers are read.

One module for each; a module is a `Flavour`. Each writes a request as the server's API has it, and
folds the pieces of the reply into an `Answer`. What it does not report stays `None`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias

from backends.api import TokenIds
from backends.server.client import Client

LabelLogprobs: TypeAlias = Literal["exact", "top_k", "none"]


@dataclass(frozen=True, slots=True)
class Ask:
    """One request. `tokens` are those whose log-probabilities at the first place of the reply are
    wanted, each with its text; with `wants_all`, those of the whole vocabulary. Requests of one
    `salt` may share what the server has in its cache, where it knows of such; `window` is the
    context that a server is to allocate which has to know of it. A `cold` one shall use nothing
    that was computed before.
    """

    model: str
    token_ids: Sequence[int]
    text: str
    max_tokens: int
    window: int
    stop: tuple[str, ...] = ()
    temperature: float = 0.0
    seed: int = 0
    ignore_end: bool = False
    tokens: Mapping[int, str] = field(default_factory=dict)
    wants_all: bool = False
    salt: str = ""
    cold: bool = False


@dataclass(frozen=True, slots=True)
class Request:
    path: str
    body: dict[str, Any]


@dataclass(slots=True)
class Answer:
    """A reply while it grows. `logprobs` are of the first place, by token id or by text.

    `finish` is empty until the server has said how the reply ended. `wrote` is whether a piece had
    a token in it, in whatever channel; `first` and `last` are when such pieces came. The engine's
    own times are in seconds.
    """

    text: str = ""
    token_ids: list[int] = field(default_factory=list)
    finish: Literal["", "stop", "length"] = ""
    model: str = ""
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    completion_tokens: int | None = None
    logprobs: dict[int | str, float] = field(default_factory=dict)
    wrote: bool = False
    first: float | None = None
    last: float | None = None
    prefill_seconds: float | None = None
    decode_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """What a server says of itself. `context` is what one request may have, in tokens; `models` are
    those that it serves. It shares whole blocks of `block_tokens` between prompts."""

    version: str
    models: tuple[str, ...]
    context: int | None = None
    chat_template: str | None = None
    block_tokens: int = 1


class Flavour(Protocol):
    """A kind of server."""

    NAME: str
    TITLE: str
    TAKES_IDS: bool
    LABEL_LOGPROBS: LabelLogprobs
    CAN_GIVE_ALL: bool  # log-probabilities of the whole vocabulary, which take long to write
    CAN_IGNORE_END: bool
    HAS_SALT: bool  # so that another salt is a cold cache
    CAN_START_COLD: bool  # a request can be computed without what others have left in the cache
    MOST_AT_ONCE: int | None  # `None`: as many as are wanted

    async def recognise(self, client: Client) -> Facts | None:
        """What it says, `None` where the server is of another kind. Raises `BackendError`."""
        ...

    async def context_of(self, client: Client, model: str, facts: Facts) -> int | None:
        """The tokens that a prompt and its reply may have; `None` where it does not say."""
        ...

    async def tokenize(
        self, client: Client, model: str, text: str, special: bool = False
    ) -> list[int] | None:
        """Token ids: special tokens are parsed, and none is added but with `special`, as the model
        wants them. `None` where it cannot."""
        ...

    async def detokenize(self, client: Client, model: str, token_ids: TokenIds) -> str | None:
        """The text of these tokens; `None` where it cannot say."""
        ...

    def requests(self, ask: Ask) -> tuple[Request, ...]:
        """One behind the other where it takes several; what is written comes of the last."""
        ...

    def read(self, event: Mapping[str, Any], answer: Answer) -> None: ...


def whole(value: object) -> int | None:
    """A count, `None` for whatever is none."""
    return value if type(value) is int and 0 <= value < 2**63 else None


def seconds(milliseconds: object) -> float | None:
    if isinstance(milliseconds, int | float) and 0 <= milliseconds < 1e12:
        return float(milliseconds) / 1000
    return None


def table(value: object) -> Mapping[str, Any]:
    """An object of JSON; an empty one for whatever is none."""
    return value if isinstance(value, dict) else {}


def tables(value: object) -> list[Mapping[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def ids(value: object) -> list[int] | None:
    """A list of token ids, `None` for whatever is none."""
    if not isinstance(value, list) or any(type(one) is not int or one < 0 for one in value):
        return None
    return value


def names(value: object, key: str) -> tuple[str, ...]:
    """The texts under a key of a list's objects."""
    found = (one.get(key) for one in tables(value))
    return tuple(one for one in found if isinstance(one, str) and one)
