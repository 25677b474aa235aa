"""A scripted engine without a model, for tests of the harness and of tools built on it.

Its tokens are the bytes of UTF-8. Its replies are drawn from a hash of the prompt, so they are
reproducible and know nothing of the task. Options make it answer from a script, answer nonsense,
be right at times and wrong at others, be slow, crash, hang, and allocate less context than was
wanted. Given a speed, it reports times that no clock took, with the unsteadiness of a real machine,
so that what is made of times can be tested in no time. Wherever its figures are shown they are
marked as a mock's.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from itertools import cycle, islice
from random import Random

from backends.api import (
    NO_FILES,
    Availability,
    BackendError,
    Batch,
    Capabilities,
    Decoding,
    Event,
    Finding,
    Finish,
    MemoryPlan,
    ModelRef,
    Option,
    Options,
    Progress,
    Prompt,
    Reply,
    Requirements,
    SessionInfo,
    Started,
    TokenIds,
    TokenizerInfo,
)
from backends.rules import BEYOND_MODEL, before_stop, check_length, refuse, vocabulary_sha256
from backends.sharing.prefix_tree import Leaf, common_prefix_length, walk

FORMATS = (NO_FILES,)
SCRIPT = Option(
    "script",
    str,
    "Replies to choose from, separated by |.",
    default_text="the labels",
    has_flag=False,
)
DELAY_MS = Option(
    "delay_ms", float, "Time to spend on each prompt.", 0.0, unit="ms", least=0, has_flag=False
)
BATCH = Option("batch", int, "Prompts of one batch.", 8, least=1, has_flag=False)
CONTEXT = Option(
    "context",
    int,
    "Context to allocate, whatever was wanted.",
    default_text="what was wanted",
    unit="tokens",
    least=1,
    has_flag=False,
)
CRASH_AT = Option(
    "crash_at", int, "Die when this many prompts have begun; 0 never.", 0, least=0, has_flag=False
)
HANG_AT = Option(
    "hang_at", int, "Hang when this many prompts have begun; 0 never.", 0, least=0, has_flag=False
)
THRESHOLD = Option(
    "threshold",
    float,
    "Answer by a prompt's last number: the second label from this value on, else the first.",
    default_text="answer by a hash of the prompt",
    has_flag=False,
)
ERRORS = Option(
    "errors",
    float,
    "Share of prompts that get the next label instead.",
    0.0,
    least=0,
    most=1,
    has_flag=False,
)
PLATEAU = Option(
    "plateau",
    int,
    "Lines of a prompt beyond which more help no more; with half as many, 8 % more of the prompts "
    "get the next label.",
    default_text="the number of lines does not matter",
    least=1,
    has_flag=False,
)
TOKENS_PER_SECOND = Option(
    "tokens_per_second",
    float,
    "Report this speed.",
    default_text="the clock's",
    unit="tokens/s",
    least=1e-3,
    has_flag=False,
)
JITTER = Option(
    "jitter",
    float,
    "Standard deviation of the logarithm of the reported speed.",
    0.0,
    least=0,
    has_flag=False,
)
MEMORY_GIB = Option(
    "memory_gib",
    float,
    "Say that a session takes so much memory.",
    default_text="say nothing",
    unit="GiB",
    least=0,
    has_flag=False,
)
DECLARED = Option(
    "declared",
    int,
    "Tokens that the model was made for.",
    2**20,
    unit="tokens",
    least=1,
    has_flag=False,
)
TOKEN_KIB = Option(
    "token_kib",
    int,
    "Take so much memory for each token of the context.",
    0,
    unit="KiB",
    least=0,
    has_flag=False,
)
LONGEST_PROMPT = Option(
    "longest_prompt",
    int,
    "Crash at a longer prompt.",
    default_text="never",
    unit="tokens",
    least=1,
    has_flag=False,
)
NOISE_SEED = Option("noise_seed", int, "Seed of errors and jitter.", 0, has_flag=False)
CONCURRENCY = Option(
    "concurrency",
    int,
    "Report requests as the client of a server would, with so many in flight. Each has a cache of "
    "its own, an equal part of tokens_per_second (1,000 where none is given), and waits for "
    "delay_ms. No time really passes.",
    default_text="batches of its own, by its own clock",
    least=1,
    most=1024,
    has_flag=False,
)
COLD = Option(
    "cold",
    bool,
    "With concurrency: compute each prompt whole, as if no two began alike.",
    False,
    has_flag=False,
)
OPTIONS = (
    SCRIPT,
    DELAY_MS,
    BATCH,
    CONTEXT,
    CRASH_AT,
    HANG_AT,
    THRESHOLD,
    ERRORS,
    PLATEAU,
    TOKENS_PER_SECOND,
    JITTER,
    MEMORY_GIB,
    DECLARED,
    TOKEN_KIB,
    LONGEST_PROMPT,
    BEYOND_MODEL,
    NOISE_SEED,
    CONCURRENCY,
    COLD,
)

BOS, EOS = 256, 257
_SPECIAL = {"<bos>": BOS, "<eos>": EOS}
_VOCABULARY = (*map(chr, range(256)), *_SPECIAL)
_NUMBER = re.compile(rb"-?\d+(?:\.\d+)?")
_SPECIAL_PATTERN = re.compile("(<bos>|<eos>)")
_NEWLINE = ord("\n")
_WORSE_A_HALVING = 0.08
_CONFIDENCE = 0.8  # probability of the label that the mock prefers
_LABEL_MASS = 0.95  # probability of all labels together
# What slows llama.cpp down on a shared machine lasts for so long: the autocorrelation of its speed
# was 0.39 over 3.5 s and 0.1 over 7 s (15 equal runs, `docs/METRICS.md`).
_JITTER_SECONDS = 3.7
_CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}[{{ message.role }}]\n{{ message.content }}\n"
    "{% endfor %}{% if add_generation_prompt %}[assistant]\n{% endif %}"
)


def requirements(has_gpu: bool) -> Requirements:
    del has_gpu  # the same for both
    return Requirements(())


def check() -> Availability:
    return Availability(True, version="1", is_mock=True)


def open_tokenizer(model: ModelRef, options: Options) -> MockTokenizer:
    del model  # all of the mock's models are one
    _refuse_unknown(options)
    return MockTokenizer(options)


def predict_memory(model: ModelRef, options: Options, tokens: int) -> MemoryPlan | None:
    """So much for the weights, and a byte for each token, or what one really takes."""
    del model
    size = MEMORY_GIB.given(options)
    each = 1024 * TOKEN_KIB.of(options) or 1
    return (
        None if size is None else MemoryPlan(tokens, round(size * 2**30), each * tokens, each, 0, 0)
    )


def open_session(model: ModelRef, options: Options) -> MockSession:
    _refuse_unknown(options)
    return MockSession(model, options)


def _refuse_unknown(options: Options) -> None:
    known = {one.name for one in OPTIONS} | {"max_model_len"}
    if unknown := options.keys() - known:
        raise BackendError(f"the mock knows no option {', '.join(sorted(unknown))}")


class MockTokenizer:
    """Bytes, and two special tokens."""

    def __init__(self, options: Options) -> None:
        self.info = TokenizerInfo(
            declared_context=DECLARED.of(options),
            vocabulary_sha256=vocabulary_sha256(_VOCABULARY),
            vocabulary_size=len(_VOCABULARY),
            bos_id=BOS,
            bos_text="<bos>",
            eos_text="<eos>",
            chat_template=_CHAT_TEMPLATE,
        )

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        return [_tokenize(text) for text in texts]

    def token_texts(self, token_ids: TokenIds) -> list[str]:
        return [_VOCABULARY[token] for token in token_ids]

    def close(self) -> None:
        """There is nothing to give back."""


class MockSession:
    """Answers by hash."""

    def __init__(self, model: ModelRef, options: Options) -> None:
        longest = int(options["max_model_len"])
        check_length(longest, DECLARED.of(options), model.name, options)
        self._tokenizer = MockTokenizer(options)
        self._memory = b"\1" * (1024 * TOKEN_KIB.of(options) * longest)
        self._longest = LONGEST_PROMPT.given(options)
        script = SCRIPT.given(options)
        self._script = [] if script is None else script.split("|")
        self._delay_seconds = DELAY_MS.of(options) / 1000
        self._batch = BATCH.of(options)
        self._crash_at = CRASH_AT.of(options)
        self._hang_at = HANG_AT.of(options)
        self._threshold = THRESHOLD.given(options)
        self._errors = ERRORS.of(options)
        self._plateau = PLATEAU.given(options)
        self._noise_seed = NOISE_SEED.of(options)
        self._clock = _clock(options, self._noise_seed)
        lanes = CONCURRENCY.given(options)
        self._requests = _Requests(lanes, options, self._noise_seed) if lanes else None
        self._started = 0
        self._held: TokenIds = ()
        self.info = SessionInfo(
            engine="mock",
            engine_version="mock 1",
            model=model.name,
            weights="none (mock)",
            device="none",
            threads=1,
            allocated_context=CONTEXT.given(options) or longest,
            is_mock=True,
            findings=(Finding("prompts_not_equal", seen=0),) if COLD.of(options) else (),
            capabilities=Capabilities(clock="client" if self._requests else "engine"),
            **asdict(self._tokenizer.info),
        )

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        return self._tokenizer.tokenize(texts)

    def token_texts(self, token_ids: TokenIds) -> list[str]:
        return self._tokenizer.token_texts(token_ids)

    def generate(self, prompts: Sequence[Prompt], decoding: Decoding) -> Iterator[Event]:
        refused, accepted = refuse(prompts, decoding, self.info.allocated_context)
        if refused:
            now = self._requests.wait() if self._requests else self._clock.now()
            yield Batch(refused, now, now, 0, 0.0, 0, 0.0)
        leaves = walk({index: prompts[index].token_ids for index in accepted})
        if self._requests:
            yield from self._in_flight(self._requests, leaves, prompts, decoding)
            return
        for start in range(0, len(leaves), self._batch):
            group = leaves[start : start + self._batch]
            yield Started(tuple(leaf.prompt for leaf in group))
            self._misbehave(len(group), max(len(prompts[leaf.prompt].token_ids) for leaf in group))
            yield from self._answer(group, prompts, decoding)

    def forget(self) -> None:
        self._held = ()
        if self._requests:
            self._requests.forget()

    def close(self) -> None:
        self.forget()

    def _misbehave(self, count: int, longest: int) -> None:
        self._started += count
        is_too_long = self._longest is not None and longest > self._longest
        if is_too_long or 0 < self._crash_at <= self._started:
            os.kill(os.getpid(), signal.SIGKILL)  # as the kernel does when memory runs out
        while 0 < self._hang_at <= self._started:
            time.sleep(3600)

    def _answer(
        self, group: Sequence[Leaf], prompts: Sequence[Prompt], decoding: Decoding
    ) -> Iterator[Event]:
        began = self._clock.now()
        time.sleep(self._delay_seconds * len(group))
        scored: list[Reply] = []
        computed = 0
        for leaf in group:
            token_ids = prompts[leaf.prompt].token_ids
            cached = common_prefix_length(self._held, token_ids)
            self._held = token_ids
            computed += len(token_ids) - cached
            scored.append(self._scored(leaf.prompt, token_ids, cached, decoding))
        prefill_seconds = self._clock.passed(computed, began)
        yield Progress(computed)
        decode_began = self._clock.now()
        replies = tuple(
            self._reply(one, prompts[one.prompt], decoding, prefill_seconds) for one in scored
        )
        # The first token of each reply comes out of the prefill.
        later = sum(max(len(reply.token_ids) - 1, 0) for reply in replies)
        decode_seconds = self._clock.passed(later, decode_began)
        yield Batch(
            replies=replies,
            began=began,
            ended=self._clock.now(),
            prefill_tokens=computed,
            prefill_seconds=prefill_seconds,
            decode_tokens=later,
            decode_seconds=decode_seconds if later else 0.0,
        )

    def _in_flight(
        self,
        requests: _Requests,
        leaves: Sequence[Leaf],
        prompts: Sequence[Prompt],
        decoding: Decoding,
    ) -> Iterator[Event]:
        """A closed loop: as soon as a request has ended, the next one is sent in its place."""
        pending: dict[int, Batch] = {}
        for leaf in leaves:
            lane = requests.next_lane()
            yield from _ended(pending, lane)
            yield Started((leaf.prompt,))
            self._misbehave(1, len(prompts[leaf.prompt].token_ids))
            prompt = prompts[leaf.prompt]
            cached = requests.cached(lane, prompt.token_ids)
            scored = self._scored(leaf.prompt, prompt.token_ids, cached, decoding)
            reply = self._reply(scored, prompt, decoding, prefill_seconds=0.0)
            pending[lane] = requests.timed(lane, reply)
        for lane in sorted(pending, key=lambda one: pending[one].ended):
            yield from _ended(pending, lane)
        requests.wait()

    def _scored(self, index: int, token_ids: TokenIds, cached: int, decoding: Decoding) -> Reply:
        # Not by the seed of the call: what a model computes does not depend on what is drawn.
        preferred = self._label(token_ids, _digest(token_ids, seed=0), decoding)
        logprobs = _label_logprobs(preferred, len(decoding.labels))
        return Reply(index, "scored", len(token_ids), cached, label_logprobs=logprobs)

    def _label(self, prompt: TokenIds, digest: bytes, decoding: Decoding) -> int:
        """The place of the label that it prefers."""
        label = digest[0]
        if self._threshold is not None:
            numbers = _NUMBER.findall(bytes(token for token in prompt if token < BOS))
            label = int(float(numbers[-1]) >= self._threshold) if numbers else 0
        # Seeded by a text, it draws the same in every process.
        noise = Random(f"{self._noise_seed}:{digest.hex()}")  # noqa: S311 - nothing here is a secret
        return (label + (noise.random() < self._share_wrong(prompt))) % max(len(decoding.labels), 1)

    def _share_wrong(self, prompt: TokenIds) -> float:
        """The share of such prompts that get the next label."""
        if self._plateau is None:
            return self._errors
        lines = max(list(prompt).count(_NEWLINE), 1)
        halvings = max(math.log2(self._plateau / lines), 0.0)
        return min(self._errors + _WORSE_A_HALVING * halvings, 1.0)

    def _reply(
        self, scored: Reply, prompt: Prompt, decoding: Decoding, prefill_seconds: float
    ) -> Reply:
        if decoding.mode == "score":
            return scored
        digest = _digest(prompt.token_ids, seed=0)
        if decoding.temperature > 0:
            digest = _digest(prompt.token_ids, decoding.seed, prompt.attempt)
        tokens = self._tokens(prompt.token_ids, digest, decoding)
        within = tokens[: decoding.max_tokens] if decoding.mode == "free" else tokens
        ended: Finish = "stop" if decoding.mode == "free" else "label"
        return replace(
            scored,
            finish="length" if len(within) < len(tokens) else ended,
            text=before_stop(bytes(within).decode("utf-8", errors="replace"), decoding.stop),
            token_ids=tuple(within),
            time_to_first_token_ms=1000 * prefill_seconds,
        )

    def _tokens(self, prompt: TokenIds, digest: bytes, decoding: Decoding) -> Sequence[int]:
        said = self._said(prompt, digest, decoding)
        if decoding.mode == "free" and decoding.ignore_end:
            # One more than is wanted, so that the reply ends by its length.
            return tuple(islice(cycle(said or b" "), decoding.max_tokens + 1))
        return said

    def _said(self, prompt: TokenIds, digest: bytes, decoding: Decoding) -> Sequence[int]:
        if self._script and decoding.mode == "free":
            return self._script[digest[1] % len(self._script)].encode()
        return decoding.labels[self._label(prompt, digest, decoding)] if decoding.labels else b""


class _Clock:
    """The machine's own."""

    def now(self) -> float:
        return time.perf_counter()

    def passed(self, tokens: int, since: float) -> float:
        """The seconds that evaluating so many tokens took, which began at `since`."""
        del tokens
        return self.now() - since


class _ScriptedClock(_Clock):
    """Goes on by the tokens alone, at a speed that wanders around what it should be."""

    def __init__(self, tokens_per_second: float, jitter: float, seed: int) -> None:
        self._now = 0.0
        self._tokens_per_second = tokens_per_second
        self._jitter = jitter
        self._random = Random(seed)  # noqa: S311 - nothing here is a secret
        self._deviation = self._random.gauss()

    def now(self) -> float:
        return self._now

    def passed(self, tokens: int, since: float) -> float:
        """A first-order autoregression in the time that passes."""
        del since
        plain = tokens / self._tokens_per_second
        stays = math.exp(-plain / _JITTER_SECONDS)
        self._deviation *= stays
        # With these weights, the standard deviation of the deviation itself stays 1.
        self._deviation += math.sqrt(1 - stays**2) * self._random.gauss()
        seconds = plain * math.exp(self._jitter * self._deviation)
        self._now += seconds
        return seconds


class _Requests:
    """The times that a client would see of a server that answers so many requests at once: each
    has a slot, which holds the prompt before, and an equal part of the server's speed."""

    def __init__(self, concurrency: int, options: Options, seed: int) -> None:
        self._seconds_per_token = concurrency / (TOKENS_PER_SECOND.given(options) or 1000.0)
        self._is_cold = COLD.of(options)
        self._wait = DELAY_MS.of(options) / 1000
        self._jitter = JITTER.of(options)
        self._random = Random(seed)  # noqa: S311 - nothing here is a secret
        self._free = [0.0] * concurrency  # when each slot is
        self._held: list[TokenIds] = [()] * concurrency

    def next_lane(self) -> int:
        """The slot that is free first."""
        return min(range(len(self._free)), key=self._free.__getitem__)

    def cached(self, lane: int, token_ids: TokenIds) -> int:
        """How much of the prompt the slot has; it holds the prompt afterwards."""
        cached = common_prefix_length(self._held[lane], token_ids)
        self._held[lane] = token_ids
        return 0 if self._is_cold else cached

    def timed(self, lane: int, reply: Reply) -> Batch:
        """The reply with the times of a request that begins as soon as its slot is free."""
        cached = reply.cached_tokens or 0
        per_token = self._seconds_per_token * math.exp(self._jitter * self._random.gauss())
        first = self._wait + (reply.prompt_tokens - cached) * per_token
        later = max(len(reply.token_ids) - 1, 0)
        began = self._free[lane]
        self._free[lane] = began + first + later * per_token
        if reply.finish != "scored":
            reply = replace(
                reply,
                time_to_first_token_ms=1000 * first,
                time_per_output_token_ms=1000 * per_token if later else None,
            )
        return Batch((reply,), began, self._free[lane], reply.prompt_tokens - cached)

    def wait(self) -> float:
        """Until the last request has ended, which is now."""
        self._free = [max(self._free)] * len(self._free)
        return self._free[0]

    def forget(self) -> None:
        self._held = [()] * len(self._held)


def _ended(pending: dict[int, Batch], lane: int) -> Iterator[Event]:
    """The request of a slot, if there is one."""
    if batch := pending.pop(lane, None):
        yield Progress(batch.prefill_tokens or 0)
        yield batch


def _clock(options: Options, seed: int) -> _Clock:
    speed = TOKENS_PER_SECOND.given(options)
    return _Clock() if speed is None else _ScriptedClock(speed, JITTER.of(options), seed)


def _tokenize(text: str) -> list[int]:
    ids: list[int] = []
    for part in _SPECIAL_PATTERN.split(text):
        ids += [_SPECIAL[part]] if part in _SPECIAL else part.encode("utf-8", errors="replace")
    return ids


def _digest(token_ids: TokenIds, seed: int, attempt: int = 0) -> bytes:
    """The first attempt is not written into what is hashed: it gives what a single one gives."""
    text = f"{seed}:{list(token_ids)}" + (f":{attempt}" if attempt else "")
    return hashlib.sha256(text.encode()).digest()


def _label_logprobs(preferred: int, count: int) -> tuple[float, ...]:
    rest = (_LABEL_MASS - _CONFIDENCE) / max(count - 1, 1)
    return tuple(math.log(_CONFIDENCE if i == preferred else rest) for i in range(count))
