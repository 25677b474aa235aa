"""A scripted engine without a model, for tests of the harness and of tools built on it.

Its tokens are the bytes of UTF-8. Its replies are drawn from a hash of the prompt, so they are
reproducible and know nothing of the task. It can be told to answer from a script, to answer
nonsense, to be slow, to crash, to hang, and to have less context than was asked for. Wherever its
figures are shown they are marked as a mock's.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import cycle, islice

from backends.api import (
    NO_FILES,
    Availability,
    BackendError,
    Batch,
    Decoding,
    Event,
    Finish,
    ModelRef,
    Options,
    Progress,
    Reply,
    Requirements,
    SessionInfo,
    Started,
    TokenIds,
)
from backends.prefix_tree import Leaf, common_prefix_length, walk
from backends.rules import before_stop, refuse, vocabulary_sha256

FORMATS = (NO_FILES,)
OPTIONS: Mapping[str, str] = {
    "script": "replies to choose from, separated by | (default: the labels)",
    "delay_ms": "time to spend on each prompt",
    "batch": "prompts of one batch (default 8)",
    "context": "tokens to allocate, whatever was asked for",
    "crash_at": "die when this many prompts have been started",
    "hang_at": "stop answering when this many prompts have been started",
}

BOS, EOS = 256, 257
_SPECIAL = {"<bos>": BOS, "<eos>": EOS}
_VOCABULARY = (*map(chr, range(256)), *_SPECIAL)
_SPECIAL_PATTERN = re.compile("(<bos>|<eos>)")
_CONFIDENCE = 0.8  # probability of the label that the mock prefers
_LABEL_MASS = 0.95  # probability of all labels together
_CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}[{{ message.role }}]\n{{ message.content }}\n"
    "{% endfor %}{% if add_generation_prompt %}[assistant]\n{% endif %}"
)


def requirements(has_gpu: bool) -> Requirements:
    del has_gpu  # the same for both
    return Requirements(())


def check() -> Availability:
    return Availability(True, version="1", is_mock=True)


def open_session(model: ModelRef, options: Options) -> MockSession:
    return MockSession(model, options)


class MockSession:
    """Answers by hash."""

    def __init__(self, model: ModelRef, options: Options) -> None:
        if unknown := set(options) - set(OPTIONS) - {"max_model_len"}:
            raise BackendError(f"the mock knows no option {', '.join(sorted(unknown))}")
        self._script = str(options["script"]).split("|") if "script" in options else []
        self._delay_seconds = float(options.get("delay_ms", 0)) / 1000
        self._batch = int(options.get("batch", 8))
        self._crash_at = int(options.get("crash_at", 0))
        self._hang_at = int(options.get("hang_at", 0))
        self._started = 0
        self._kept: TokenIds = ()
        self.info = SessionInfo(
            engine="mock",
            engine_version="mock 1",
            model=model.name,
            weights="none (mock)",
            device="none",
            threads=1,
            declared_context=int(options["max_model_len"]),
            allocated_context=int(options.get("context", options["max_model_len"])),
            vocabulary_sha256=vocabulary_sha256(_VOCABULARY),
            bos_id=BOS,
            bos_text="<bos>",
            eos_text="<eos>",
            chat_template=_CHAT_TEMPLATE,
            is_mock=True,
        )

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        return [_tokenize(text) for text in texts]

    def token_texts(self, token_ids: TokenIds) -> list[str]:
        return [_VOCABULARY[token] for token in token_ids]

    def generate(self, prompts: Sequence[TokenIds], decoding: Decoding) -> Iterator[Event]:
        refused, accepted = refuse(prompts, decoding, self.info.allocated_context)
        if refused:
            yield Batch(refused, 0.0, 0, 0.0, 0, 0.0)
        leaves = walk({index: prompts[index] for index in accepted})
        for start in range(0, len(leaves), self._batch):
            group = leaves[start : start + self._batch]
            yield Started(tuple(leaf.prompt for leaf in group))
            self._misbehave(len(group))
            yield from self._answer(group, prompts, decoding)

    def close(self) -> None:
        self._kept = ()

    def _misbehave(self, count: int) -> None:
        self._started += count
        if 0 < self._crash_at <= self._started:
            os.kill(os.getpid(), signal.SIGKILL)
        while 0 < self._hang_at <= self._started:
            time.sleep(3600)

    def _answer(
        self, group: Sequence[Leaf], prompts: Sequence[TokenIds], decoding: Decoding
    ) -> Iterator[Event]:
        began = time.perf_counter()
        time.sleep(self._delay_seconds * len(group))
        scored = [self._score(leaf, prompts[leaf.prompt], decoding) for leaf in group]
        computed = sum(reply.prompt_tokens - reply.cached_tokens for reply in scored)
        prefill_seconds = time.perf_counter() - began
        yield Progress(computed)
        decode_began = time.perf_counter()
        replies = tuple(self._reply(one, prompts[one.prompt], decoding) for one in scored)
        ended = time.perf_counter()
        later = sum(max(len(reply.token_ids) - 1, 0) for reply in replies)
        yield Batch(
            replies=replies,
            engine_seconds=ended - began,
            prefill_tokens=computed,
            prefill_seconds=prefill_seconds,
            decode_tokens=later,
            decode_seconds=ended - decode_began if later else 0.0,
        )

    def _score(self, leaf: Leaf, prompt: TokenIds, decoding: Decoding) -> Reply:
        cached = common_prefix_length(self._kept, prompt)
        self._kept = prompt
        return Reply(
            prompt=leaf.prompt,
            finish="scored",
            prompt_tokens=len(prompt),
            cached_tokens=cached,
            label_logprobs=_label_logprobs(_digest(prompt, seed=0)[0], len(decoding.labels)),
        )

    def _reply(self, scored: Reply, prompt: TokenIds, decoding: Decoding) -> Reply:
        if decoding.mode == "score":
            return scored
        seed = decoding.seed if decoding.temperature > 0 else 0
        tokens = self._tokens(_digest(prompt, seed), decoding)
        within = tokens[: decoding.max_tokens] if decoding.mode == "free" else tokens
        ended: Finish = "stop" if decoding.mode == "free" else "label"
        return replace(
            scored,
            finish="length" if len(within) < len(tokens) else ended,
            text=before_stop(bytes(within).decode("utf-8", errors="replace"), decoding.stop),
            token_ids=tuple(within),
            time_to_first_token_ms=1000 * self._delay_seconds,
        )

    def _tokens(self, digest: bytes, decoding: Decoding) -> Sequence[int]:
        said = self._said(digest, decoding)
        if decoding.mode == "free" and decoding.ignore_end:
            return tuple(islice(cycle(said or b" "), decoding.max_tokens + 1))
        return said

    def _said(self, digest: bytes, decoding: Decoding) -> Sequence[int]:
        if self._script and decoding.mode == "free":
            return self._script[digest[1] % len(self._script)].encode()
        return decoding.labels[digest[0] % len(decoding.labels)] if decoding.labels else b""


def _tokenize(text: str) -> list[int]:
    ids: list[int] = []
    for part in _SPECIAL_PATTERN.split(text):
        ids += [_SPECIAL[part]] if part in _SPECIAL else part.encode("utf-8", errors="replace")
    return ids


def _digest(prompt: TokenIds, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}:{list(prompt)}".encode()).digest()


def _label_logprobs(byte: int, count: int) -> tuple[float, ...]:
    """The labels' log-probabilities; the byte decides which is preferred."""
    rest = (_LABEL_MASS - _CONFIDENCE) / max(count - 1, 1)
    return tuple(math.log(_CONFIDENCE if i == byte % count else rest) for i in range(count))
