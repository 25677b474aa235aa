"""An example backend around an "engine" that takes a text and gives one back, and no more.

Much that is served elsewhere is like it: it reports no log-probabilities, forgets nothing on
demand, and says neither what it had cached nor how long it took, so that the times are the
client's. `Capabilities` say so, and what cannot be reported is `None`. The harness then writes why
a figure is missing, and leaves out the parts of its conformance suite that cannot be met.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict

from backends.api import (
    NO_FILES,
    Availability,
    BackendError,
    Batch,
    Capabilities,
    Decoding,
    Event,
    Finish,
    ModelRef,
    Options,
    Prompt,
    Reply,
    Requirements,
    SessionInfo,
    Started,
    TokenIds,
    TokenizerInfo,
)
from backends.rules import before_stop, beyond_model, refuse, vocabulary_sha256

FORMATS = (NO_FILES,)
OPTIONS = ()
DECLARED_CONTEXT = 100_000


def requirements(has_gpu: bool) -> Requirements:
    return Requirements(())


def check() -> Availability:
    return Availability(True, version="0.1.0", is_mock=True)


def open_tokenizer(model: ModelRef, options: Options) -> PlainTokenizer:
    """Prompts are packed by it, so that they fit; the engine is given their text."""
    return PlainTokenizer()


def open_session(model: ModelRef, options: Options) -> PlainSession:
    longest = int(options["max_model_len"])
    if longest > DECLARED_CONTEXT:
        raise beyond_model(longest, DECLARED_CONTEXT, model.name)
    return PlainSession(model.name, longest)


class PlainTokenizer:
    """Tokens are the bytes of UTF-8."""

    info = TokenizerInfo(
        DECLARED_CONTEXT, vocabulary_sha256(map(chr, range(256))), vocabulary_size=256
    )

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        return [list(text.encode("utf-8", errors="replace")) for text in texts]

    def token_texts(self, token_ids: TokenIds) -> list[str]:
        return [chr(token) for token in token_ids]

    def close(self) -> None:
        """There is nothing to give back."""


class PlainSession:
    """Where a server would be, there is `_complete`."""

    def __init__(self, model: str, longest: int) -> None:
        self._tokenizer = PlainTokenizer()
        self.info = SessionInfo(
            engine="plain",
            engine_version="plain 0.1.0",
            model=model,
            weights="none (mock)",
            device="cpu",
            threads=1,
            allocated_context=longest,
            is_mock=True,
            capabilities=Capabilities(
                prompts="text", label_logprobs="none", can_forget=False, clock="client"
            ),
            **asdict(self._tokenizer.info),
        )

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        return self._tokenizer.tokenize(texts)

    def token_texts(self, token_ids: TokenIds) -> list[str]:
        return self._tokenizer.token_texts(token_ids)

    def generate(self, prompts: Sequence[Prompt], decoding: Decoding) -> Iterator[Event]:
        if decoding.mode != "free":
            raise BackendError(f"plain cannot do {decoding.mode} decoding", "Use --decoding free.")
        refused, accepted = refuse(prompts, decoding, self.info.allocated_context)
        if refused:
            now = time.perf_counter()
            yield Batch(refused, began=now, ended=now)
        for index in accepted:
            yield Started((index,))
            prompt = prompts[index]
            began = time.perf_counter()
            text, finish = _complete(prompt.text, prompt.attempt, decoding)
            reply = Reply(index, finish, len(prompt.token_ids), cached_tokens=None, text=text)
            yield Batch((reply,), began=began, ended=time.perf_counter())

    def forget(self) -> None:
        """Is never called, as the capabilities say."""

    def close(self) -> None:
        """There is nothing to give back."""


def _complete(text: str, attempt: int, decoding: Decoding) -> tuple[str, Finish]:
    """Goes on with a word of the text: the last one, or one drawn. A byte is a token."""
    words = re.findall(r"\w+", text) or ["?"]
    word = words[-1]
    if decoding.temperature > 0:
        word = random.Random(f"{decoding.seed}:{attempt}:{text!r}").choice(words)
    word = " " + word
    if decoding.ignore_end:
        word *= decoding.max_tokens
    whole = word.encode("utf-8", errors="replace")
    within = whole[: decoding.max_tokens].decode("utf-8", errors="ignore")
    reply = before_stop(within, decoding.stop)
    is_cut = len(whole) > decoding.max_tokens and reply == within
    return reply, "length" if is_cut else "stop"
