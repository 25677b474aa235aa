"""The contract between the harness and an engine. Standard library only.

A backend is a module (or any object) with what `Backend` lists. Importing it must import nothing
heavy: the engine itself is imported inside `check` and `open_session`, which run in a process of
their own. A third party adds a backend with one entry point in the group `llm_harness.backends`
that names such a module; the harness treats it exactly as it treats its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

ENTRY_POINT_GROUP = "llm_harness.backends"
NO_FILES = "none"  # the model format of a backend that reads no model files

DecodingMode: TypeAlias = Literal["free", "choice", "score"]
Finish: TypeAlias = Literal["stop", "length", "label", "scored", "overflow", "empty", "failed"]
OptionValue: TypeAlias = bool | int | float | str
Options: TypeAlias = Mapping[str, OptionValue]
TokenIds: TypeAlias = Sequence[int]


class BackendError(Exception):
    """Something the user can fix; the message names the cause, `remedy` what to do about it."""

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.remedy = remedy


@dataclass(frozen=True, slots=True)
class Availability:
    """Whether a backend can run here. `remedy` is the command that makes it so, if it cannot."""

    available: bool
    version: str = ""
    reason: str = ""
    remedy: str = ""
    is_mock: bool = False


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
    labels: tuple[tuple[int, ...], ...]
    max_tokens: int = 8
    stop: tuple[str, ...] = ()
    temperature: float = 0.0
    seed: int = 0
    ignore_end: bool = False


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
    "remote" where it does not run on this machine.
    """

    prompts: Literal["token_ids", "text"] = "token_ids"
    label_logprobs: Literal["exact", "top_k", "none"] = "exact"
    can_forget: bool = True
    clock: Literal["engine", "client"] = "engine"
    location: Literal["local", "remote"] = "local"


@dataclass(frozen=True, slots=True)
class TokenizerInfo:
    """What is known of a model without its weights.

    `declared_context`: the tokens that it was trained for. `bos_id` is `None` where the model wants
    no beginning-of-sequence token. `chat_template` is the model's own, as jinja text, untrusted.
    `vocabulary_sha256` is `backends.rules.vocabulary_sha256`: where it is equal, the same token ids
    mean the same.
    """

    declared_context: int
    vocabulary_sha256: str
    bos_id: int | None = None
    bos_text: str = ""
    eos_text: str = ""
    chat_template: str | None = None


@dataclass(frozen=True, slots=True)
class SessionInfo:
    """What was opened. Context sizes are in tokens.

    `allocated_context` is the longest prompt and reply this session takes. Of prompts that begin
    alike, the engine shares blocks of `shared_block_tokens`. The fields that `TokenizerInfo` has
    too mean the same here.
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
    shared_block_tokens: int = 1
    bos_id: int | None = None
    bos_text: str = ""
    eos_text: str = ""
    chat_template: str | None = None
    is_mock: bool = False
    capabilities: Capabilities = Capabilities()


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


Event: TypeAlias = Started | Progress | Batch


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

    `FORMATS`: the forms of a model it reads ("gguf", "hf"), best first; `NO_FILES` for none.
    `OPTIONS`: the options it understands, each with a line of help. `max_model_len` (the longest
    prompt and reply in tokens) is given to every backend and is not listed.
    """

    FORMATS: tuple[str, ...]
    OPTIONS: Mapping[str, str]

    def requirements(self, has_gpu: bool) -> Requirements: ...

    def check(self) -> Availability: ...

    def open_tokenizer(self, model: ModelRef, options: Options) -> Tokenizer:
        """Loads no weights, and needs no file of weights to be there, unless it holds the
        tokenizer too. Raises `BackendError`."""
        ...

    def open_session(self, model: ModelRef, options: Options) -> Session:
        """Loads the model. Raises `BackendError`."""
        ...
