"""An example backend: an "engine" that answers with the label it has counted most in the prompt.

It needs no model and is no use, but it keeps the whole contract of `backends.api`, and passes the
harness's conformance suite. Copy it to begin a backend of your own.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import cycle, islice

from backends.api import (
    NO_FILES,
    Availability,
    Batch,
    Decoding,
    DecodingMode,
    Event,
    Finish,
    ModelRef,
    Option,
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
from backends.sharing.prefix_tree import Leaf, walk

DECLARED_CONTEXT = 100_000
FORMATS = (NO_FILES,)  # a real engine reads "gguf" or "hf"
_FINISHES: Mapping[DecodingMode, Finish] = {"free": "stop", "choice": "label", "score": "scored"}
PRIOR = Option("prior", float, "How often each label counts as seen beforehand.", 1.0, least=0)
OPTIONS = (PRIOR,)  # a flag, a key and a row of the reference are made of it


def requirements(has_gpu: bool) -> Requirements:
    return Requirements(())


def check() -> Availability:
    """Here an engine would look whether its package is installed, and say how to get it."""
    return Availability(True, version="0.1.0", is_mock=True)


def open_tokenizer(model: ModelRef, options: Options) -> CountingTokenizer:
    """Here the model's tokenizer would be read, and none of its weights."""
    return CountingTokenizer()


def open_session(model: ModelRef, options: Options) -> CountingSession:
    """Here an engine would be imported and would load the model."""
    return CountingSession(model, options)


class CountingTokenizer:
    """Tokens are the bytes of UTF-8."""

    info = TokenizerInfo(
        DECLARED_CONTEXT, vocabulary_sha256(map(chr, range(256))), vocabulary_size=256
    )

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        return [list(text.encode("utf-8", errors="replace")) for text in texts]

    def token_texts(self, token_ids: TokenIds) -> list[str]:
        return [chr(token) for token in token_ids]

    def close(self) -> None:
        """Here a tokenizer would give back its memory."""


class CountingSession:
    """Byte 0 ends a reply."""

    def __init__(self, model: ModelRef, options: Options) -> None:
        longest = int(options["max_model_len"])
        if longest > DECLARED_CONTEXT:
            raise beyond_model(longest, DECLARED_CONTEXT, model.name)
        self._prior = PRIOR.of(options)
        self._tokenizer = CountingTokenizer()
        self.info = SessionInfo(
            engine="counting",
            engine_version="counting 0.1.0",
            model=model.name,
            weights="none (mock)",
            device="cpu",
            threads=1,
            allocated_context=longest,
            is_mock=True,
            **asdict(self._tokenizer.info),
        )

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        return self._tokenizer.tokenize(texts)

    def token_texts(self, token_ids: TokenIds) -> list[str]:
        return self._tokenizer.token_texts(token_ids)

    def generate(self, prompts: Sequence[Prompt], decoding: Decoding) -> Iterator[Event]:
        refused, accepted = refuse(prompts, decoding, self.info.allocated_context)
        if refused:
            now = time.perf_counter()
            yield Batch(refused, now, now, 0, 0.0, 0, 0.0)
        if not accepted:
            return
        yield Started(tuple(accepted))
        began = time.perf_counter()
        leaves = walk({index: prompts[index].token_ids for index in accepted})
        replies = tuple(self._reply(leaf, prompts[leaf.prompt], decoding, began) for leaf in leaves)
        ended = time.perf_counter()
        computed = sum(len(prompts[leaf.prompt].token_ids) - leaf.shared for leaf in leaves)
        later = sum(max(len(reply.token_ids) - 1, 0) for reply in replies)
        # Here an engine would look at its clock between the two; this one does both at once.
        half = (ended - began) / 2
        yield Batch(replies, began, ended, computed, half, later, half if later else 0.0)

    def forget(self) -> None:
        """Here an engine would drop its cache. This one keeps nothing from call to call."""

    def close(self) -> None:
        """Here an engine would give back its memory."""

    def _reply(self, leaf: Leaf, prompt: Prompt, decoding: Decoding, began: float) -> Reply:
        seen = bytes(list(prompt.token_ids))
        counts = [seen.count(bytes(label)) + self._prior for label in decoding.labels]
        generates = counts and decoding.mode != "score"
        tokens = _pick(counts, seen, prompt.attempt, decoding) if generates else ()
        if decoding.mode == "free":
            tokens = (*tokens, 0)
        if decoding.mode == "free" and decoding.ignore_end:
            tokens = tuple(islice(cycle(tokens), decoding.max_tokens + 1))
        within = tokens[: decoding.max_tokens] if decoding.mode == "free" else tokens
        text = bytes(within).replace(b"\0", b"").decode("utf-8", errors="replace")
        return Reply(
            prompt=leaf.prompt,
            finish="length" if len(within) < len(tokens) else _FINISHES[decoding.mode],
            prompt_tokens=len(seen),
            cached_tokens=leaf.shared,
            text=before_stop(text, decoding.stop),
            token_ids=within,
            time_to_first_token_ms=1000 * (time.perf_counter() - began) if within else None,
            label_logprobs=tuple(math.log(0.99 * count / sum(counts)) for count in counts),
        )


def _pick(
    counts: Sequence[float], seen: bytes, attempt: int, decoding: Decoding
) -> tuple[int, ...]:
    """The label counted most; or one drawn, reproducibly by seed, prompt and attempt."""
    if decoding.temperature == 0:
        return decoding.labels[counts.index(max(counts))]
    weights = [count ** (1 / decoding.temperature) for count in counts]
    drawn = random.Random(f"{decoding.seed}:{attempt}:{seen!r}")
    return drawn.choices(decoding.labels, weights)[0]
