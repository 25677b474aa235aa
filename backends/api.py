"""The contract between the harness and an engine. Standard library only.

A backend is a module (or any object) with what `Backend` lists. Importing it must import nothing
heavy: the engine itself is imported inside `check` and `open_session`, which run in a process of
their own. A third party adds a backend with one entry point in the group `llm_harness.backends`
that names such a module; the harness treats it exactly as it treats its own.
"""

from __future__ import annotations

import keyword
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, Protocol, TypeAlias, TypeVar

ENTRY_POINT_GROUP = "llm_harness.backends"
_MOST_WHOLE = 2**31
"""Engines hold whole numbers in 32 bits: a larger one becomes another number without a word."""
_KINDS: Mapping[type, str] = {bool: "true or false", list: "a text, or a list of texts"}
_LONGEST = 100  # characters of a value in a message
NO_FILES = "none"  # the model format of a backend that reads no model files

DecodingMode: TypeAlias = Literal["free", "choice", "score"]
Finish: TypeAlias = Literal["stop", "length", "label", "scored", "overflow", "empty", "failed"]
OptionValue: TypeAlias = bool | int | float | str | list[str]
FindingKind: TypeAlias = Literal[
    "prompt_cut",
    "head_unproven",
    "bos_doubled",
    "bos_added",
    "bos_missing",
    "chat_template",
    "tokens_differ",
    "context_smaller",
    "context_divided",
    "cached_tokens_false",
    "prompt_tokens_unknown",
    "prompts_not_equal",
    "retried",
    "server_lost",
]
Side: TypeAlias = Literal["", "head", "middle", "tail"]
Options: TypeAlias = Mapping[str, Any]
"""Values by name: each an `OptionValue`, which `Option.given` reads as what it is."""
TokenIds: TypeAlias = Sequence[int]

T = TypeVar("T", bool, int, float, str, list[str])


# Not of `harness.errors`: a worker has `backends` and its engine, and nothing else of ours.
class BackendError(Exception):
    """Something the user can fix; the message names the cause, `remedy` what to do about it."""

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.remedy = remedy


@dataclass(frozen=True, slots=True)
class Option(Generic[T]):
    """One option of an engine, and the only place where it is defined: the flag of `harness run`
    and `harness bench`, its help, the key of the TOML file and the reference page are made of it.

    `kind` is the type of its values: `bool`, `int`, `float` (takes whole numbers too), `str` or
    `list`, of texts; one text alone is a list of one, and its flag may be repeated.
    With `default` `None` the engine decides where none is given, as `default_text` says in words.
    `choices` are all the values that a text may have, or the whole of a text (each of a list) fits
    `pattern`, which `pattern_text` puts in words. `least` and `most` bound a number, inclusive.
    `short` is a letter for a second, short flag. An option without `has_flag` is given by
    `--engine-option NAME=VALUE` or by its key.
    """

    name: str
    kind: type[T]
    help: str
    default: T | None = None
    default_text: str = ""
    unit: str = ""
    choices: tuple[str, ...] = ()
    pattern: str = ""
    pattern_text: str = ""
    least: float | None = None
    most: float | None = None
    short: str = ""
    has_flag: bool = True

    def __post_init__(self) -> None:
        """Raises `ValueError` for a name that could be no flag and no key of a TOML file."""
        if not re.fullmatch(r"[a-z][a-z0-9_]*", self.name) or keyword.iskeyword(self.name):
            raise ValueError(f"an option cannot be named {self.name!r}: use lower_case words")
        if not re.fullmatch(r"[a-zA-Z]?", self.short):
            raise ValueError(f"the short flag of {self.name} is one letter, not {self.short!r}")

    def given(self, options: Options) -> T | None:
        """The value given, `None` where there is none. Raises `BackendError` for one that is not
        allowed."""
        if self.name not in options:
            return None
        value: Any = options[self.name]
        if allowed := self.why_not(value):
            raise BackendError(f"{self.name} is {written(value)}", f"Use {allowed}.")
        if self.kind is list and isinstance(value, str):
            value = [value]  # `list` would take it apart
        return self.kind(value)

    def of(self, options: Options) -> T:
        """The value given, or the default, of an option that has one. Raises as `given` does."""
        value = self.given(options)
        if value is None:
            assert self.default is not None, f"{self.name} has no default"
            return self.default
        return value

    def why_not(self, value: object) -> str:
        """What has to be given instead of this value; empty where the value is allowed."""
        kinds: tuple[type, ...] = (int, float) if self.kind is float else (self.kind,)
        # In Python `True` is an int: `threads = true` would be 1.
        is_kind = isinstance(value, kinds) and isinstance(value, bool) == (self.kind is bool)
        if self.kind is list:
            texts = value if isinstance(value, list) and value else [value]
            is_kind = all(isinstance(one, str) and self._is_one(one) for one in texts)
        if self.kind in _KINDS:
            return "" if is_kind else self.pattern_text or _KINDS[self.kind]
        if self.kind is str:
            if is_kind and self._is_one(value):
                return ""
            listed = f"one of: {', '.join(self.choices)}" if self.choices else ""
            return listed or self.pattern_text or "text"
        if self.kind is int and isinstance(value, int) and abs(value) >= _MOST_WHOLE:
            return "a whole number of 32 bits"
        if is_kind and self._is_within(value):
            return ""
        number = "a whole number" if self.kind is int else "a number"
        return number + self._bounds()

    def _is_one(self, value: Any) -> bool:
        if self.choices:
            return value in self.choices
        return not self.pattern or re.fullmatch(self.pattern, value) is not None

    def _is_within(self, value: Any) -> bool:
        low = self.least if self.least is not None else -math.inf
        high = self.most if self.most is not None else math.inf
        # TOML has `inf` and `nan`.
        return math.isfinite(value) and low <= value <= high

    def _bounds(self) -> str:
        if self.least is None:
            return "" if self.most is None else f" of {self.most:g} or less"
        if self.most is None:
            return f" of {self.least:g} or more"
        return f" from {self.least:g} to {self.most:g}"


def written(value: object) -> str:
    """A value as a TOML file has it: `true`, and text in quotes; of a long one, the beginning."""
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


@dataclass(frozen=True, slots=True)
class Availability:
    """Whether a backend can run here. `remedy` is the command that makes it so, if it cannot.

    Of one that can: `build` says in words what its engine was built for, such as "CUDA 12.8, CPU";
    `devices` are those that the engine sees; `change` is what makes it see a GPU if it sees none: a
    sentence, with the command if there is one.
    """

    available: bool
    version: str = ""
    reason: str = ""
    remedy: str = ""
    is_mock: bool = False
    build: str = ""
    devices: tuple[str, ...] = ()
    change: str = ""


@dataclass(frozen=True, slots=True)
class Requirements:
    """What `harness backends install` puts into an environment for a backend.

    `packages` as pip reads them; none for a backend that needs nothing. `unwanted` packages come
    along with them and keep the engine from running: they are removed afterwards.
    """

    packages: tuple[str, ...]
    unwanted: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ModelRef:
    """Where a model's weights are, in one of the formats the backend listed in `FORMATS`.

    `cache` is a folder in which a backend may keep what it makes of them.
    """

    name: str
    format: str
    location: str
    cache: str = ""


@dataclass(frozen=True, slots=True)
class Decoding:
    """How replies are made; the same for every prompt of one `generate` call.

    "free" generates up to `max_tokens` tokens and ends early at the model's end token or before
    the first of the `stop` strings; with `ignore_end` the end token is a token like any other, so
    that without `stop` a reply has `max_tokens` tokens. "choice" generates exactly one of the
    `labels`. "score" generates nothing. All three return the log-probability of each label as the
    reply's beginning. An engine whose label log-probabilities are not exact may refuse "choice" and
    "score" with a `BackendError`.

    `labels` are token ids: none is empty, none begins another. `temperature` 0 is greedy, else
    the whole softmax is sampled, reproducibly by `seed` and the prompt's token ids.
    """

    mode: DecodingMode
    # If one label began another one, a reply that begins with it could be both.
    labels: tuple[tuple[int, ...], ...]
    max_tokens: int = 8
    stop: tuple[str, ...] = ()
    temperature: float = 0.0
    seed: int = 0
    ignore_end: bool = False  # for `harness bench`, which times so many tokens


@dataclass(frozen=True, slots=True)
class Prompt:
    """One prompt, as token ids and as text: a session that takes text only uses the text, any other
    one the ids, and may find no text at all.

    `attempt` counts from 0. Sampled replies to one prompt differ by it; the first is what a
    single attempt gives.
    """

    token_ids: TokenIds
    text: str = ""
    attempt: int = 0


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What an engine can do. What it cannot report is `None` in its replies and batches.

    `prompts`: whether it takes token ids, or text only. `label_logprobs`: those of all labels,
    those of labels among the k likeliest tokens (`None` for the others), or none. `can_forget`:
    whether `Session.forget` makes it as cold as at first. `clock`: whose the times are. `location`:
    "remote" where it runs in no process of ours, as on another machine. `can_ignore_end`: whether a
    reply can be made to go on behind its end (`Decoding.ignore_end`).
    """

    prompts: Literal["token_ids", "text"] = "token_ids"
    label_logprobs: Literal["exact", "top_k", "none"] = "exact"
    can_forget: bool = True
    clock: Literal["engine", "client"] = "engine"
    location: Literal["local", "remote"] = "local"
    can_ignore_end: bool = True


@dataclass(frozen=True, slots=True)
class TokenizerInfo:
    """What is known of a model without its weights.

    `declared_context`: the tokens that it was trained for. `bos_id` is `None` where the model wants
    no beginning-of-sequence token. `chat_template` is the model's own, as jinja text, untrusted;
    of several that have names, the one called "default".
    `vocabulary_sha256` is `backends.rules.vocabulary_sha256`: where it is equal, the same token ids
    mean the same. `vocabulary_size` is how many ids there are, those without a text too: every id
    is below it. One that is not, of a prompt or of a reply, is refused. `rope_scaling`: how
    positions are stretched beyond those that the weights were first trained for, in words, as the
    model's files state it; empty where they state none.
    """

    declared_context: int
    vocabulary_sha256: str
    bos_id: int | None = None
    bos_text: str = ""
    eos_text: str = ""
    chat_template: str | None = None
    vocabulary_size: int | None = None
    rope_scaling: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """What an engine did to a prompt that it was given, and did not say; figures are in tokens.

    `declared` was sent, or is what the engine says of itself; `seen` is what it really had. `side`
    is where a prompt was cut. `at_once`: only with so many prompts in flight. Of "retried" the
    figures are `requests`, which had to be sent again, and `seconds` waited for them. Of
    "server_lost", `declared` servers were there, and `seen` are left. "prompts_not_equal": before
    each prompt stood a beginning of its own, of at most `seen` tokens, because the run was to be
    cold.
    """

    kind: FindingKind
    declared: int | None = None
    seen: int | None = None
    side: Side = ""
    at_once: int | None = None
    requests: int | None = None
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class SessionInfo:
    """What was opened. Context sizes are in tokens.

    `allocated_context` is the longest prompt and reply this session takes. Of prompts that begin
    alike, the engine shares blocks of `shared_block_tokens`. `findings` are what a look at the
    engine showed before it was prompted; what its replies show comes as events. The fields that
    `TokenizerInfo` has too mean the same here.
    """

    engine: str
    engine_version: str
    model: str
    weights: str
    device: str
    threads: int
    declared_context: int
    allocated_context: int
    vocabulary_sha256: str
    shared_block_tokens: int = 1  # 1: token by token
    bos_id: int | None = None
    bos_text: str = ""
    eos_text: str = ""
    chat_template: str | None = None
    is_mock: bool = False
    capabilities: Capabilities = Capabilities()
    vocabulary_size: int | None = None
    rope_scaling: str = ""
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """What a session will take for prompts and replies of so many `tokens`, in bytes, known before
    anything is loaded.

    `cache_bytes`: all that is held of tokens, with what the engine allocates in advance;
    `token_bytes`: what a token takes in it. `compute_bytes`: buffers for the evaluation.
    `engine_bytes`: the process without a model. `on_gpu`: weights, cache and buffers lie there.

    `cache_option` names the option that sets the size of a cache that does not grow with `tokens`;
    empty where it grows. `cache_tokens`: how many such a cache holds, of all prompts that are
    answered at once; `None` where it grows, or that is not known.
    """

    tokens: int
    weights_bytes: int
    cache_bytes: int
    token_bytes: int
    compute_bytes: int
    engine_bytes: int
    on_gpu: bool = False
    cache_tokens: int | None = None
    cache_option: str = ""


@dataclass(frozen=True, slots=True)
class Allocated:
    """What an engine says that it has allocated, in bytes; `None` where it does not say."""

    cache_bytes: int | None = None
    compute_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """What the engine answered to the prompt at index `prompt` of the call.

    `finish`: "stop" (end token or stop string), "length" (`max_tokens` reached), "label" (a whole
    label, in "choice"), "scored" (nothing generated, in "score"); or, with no answer at all,
    "overflow" (the prompt and the reply do not fit in the allocated context), "empty" (a prompt
    of no tokens) and "failed" (what the engine computed is no answer, such as logits that are not
    finite: `text` is the reason, in a sentence). Engines never shorten a prompt.

    `label_logprobs` are natural logarithms in the order of `Decoding.labels`, over the whole
    vocabulary; `None` for a label that the engine reports none of. `cached_tokens` of the
    `prompt_tokens` were not evaluated for this prompt: an earlier prompt, or another of the same
    batch, had them; `None` where the engine does not report it. `time_to_first_token_ms` counts
    from when the engine took up the batch that holds the prompt (time in the queue is not in it);
    `time_per_output_token_ms` leaves the first token out. Both are `None` where nothing was
    generated, where there is no second token, or where the engine does not report them.
    """

    prompt: int
    finish: Finish
    prompt_tokens: int
    cached_tokens: int | None = 0
    text: str = ""
    token_ids: tuple[int, ...] = ()
    label_logprobs: tuple[float | None, ...] | None = None
    time_to_first_token_ms: float | None = None
    time_per_output_token_ms: float | None = None


@dataclass(frozen=True, slots=True)
class Started:
    """The engine takes up these prompts: what a crash from now on costs."""

    prompts: tuple[int, ...]


# The harness aborts an engine that sends nothing for `timeout_seconds`.
@dataclass(frozen=True, slots=True)
class Progress:
    """A sign of life from within a batch: this many prompt tokens more were evaluated."""

    prompt_tokens: int


@dataclass(frozen=True, slots=True)
class Batch:
    """Replies that were finished together, and the clock of `Capabilities.clock` for that work.

    `began` and `ended` are seconds by one clock that never goes back, the same for all batches of a
    session; where it begins means nothing. Batches may overlap: what a session was busy is the
    union of their spans. All of the work lies within, label scoring and sampling too.
    `prefill_tokens` prompt tokens were evaluated in `prefill_seconds`; `decode_tokens` generated
    tokens (without each reply's first, which comes out of the prefill) in `decode_seconds`. `None`
    for what the engine does not report.
    """

    replies: tuple[Reply, ...]
    began: float
    ended: float
    prefill_tokens: int | None = None
    prefill_seconds: float | None = None
    decode_tokens: int | None = None
    decode_seconds: float | None = None

    @property
    def engine_seconds(self) -> float:
        return self.ended - self.began


Event: TypeAlias = Started | Progress | Batch | Finding


class Tokenizer(Protocol):
    """What counts and writes a model's tokens, without its weights."""

    @property
    def info(self) -> TokenizerInfo: ...

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text: special tokens are parsed, none is added."""
        ...

    def token_texts(self, token_ids: TokenIds) -> list[str]:
        """Each token as the model's vocabulary writes it, special tokens too."""
        ...

    def close(self) -> None: ...


class Session(Protocol):
    """One loaded model."""

    @property
    def info(self) -> SessionInfo: ...

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """As `Tokenizer.tokenize` does."""
        ...

    def token_texts(self, token_ids: TokenIds) -> list[str]:
        """As `Tokenizer.token_texts` does."""
        ...

    def generate(self, prompts: Sequence[Prompt], decoding: Decoding) -> Iterator[Event]:
        """Any number of prompts, in any order; each is answered by one reply in one batch.

        The engine shares common prefixes as well as it can; the caller never arranges that.
        """
        ...

    def forget(self) -> None:
        """Drops whatever it holds of earlier prompts: the next call is as cold as the first.

        Only called where `Capabilities.can_forget` says so.
        """
        ...

    def close(self) -> None: ...


class Backend(Protocol):
    """What a backend module offers.

    It may offer `predict_memory(model, options, tokens) -> MemoryPlan | None` too, which reads the
    heads of the model's files and loads nothing (`None`: it cannot know). What it says is shown,
    and a model that takes more than is free is not loaded. A session may offer
    `allocated() -> Allocated`. A backend that offers `options_of(argument) -> Options` can be named
    with an argument, as `server:http://127.0.0.1:8080`: these are the options that it stands for.
    `environment_of(options) -> str` names another backend, in whose environment it is to run where
    there is one.

    `FORMATS`: the forms of a model it reads ("gguf", "hf"), best first; `NO_FILES` for none.
    `OPTIONS`: the options it understands. `max_model_len` (the longest prompt and reply in tokens)
    is given to every backend and is not listed. One that lists `backends.rules.BEYOND_MODEL` opens
    more tokens than the model was made for where that is true; any other refuses them.
    """

    FORMATS: tuple[str, ...]
    OPTIONS: Sequence[Option[Any]]

    def requirements(self, has_gpu: bool) -> Requirements: ...

    def check(self) -> Availability: ...

    def open_tokenizer(self, model: ModelRef, options: Options) -> Tokenizer:
        """Loads no weights, and needs no file of weights to be there, unless it holds the
        tokenizer too. Raises `BackendError`."""
        ...

    def open_session(self, model: ModelRef, options: Options) -> Session:
        """Loads the model. Raises `BackendError`."""
        ...
