"""Prompts to a server and replies from it: a loop of so many requests in flight.

Each prompt is a batch of one reply; its clock is ours, from when the request is sent to the last
piece of the reply. Labels of several tokens are scored as a tree, as `backends.vllm.engine` does:
behind the prompt, and behind each beginning of a label, a request wants the log-probabilities of
the tokens that can come next. "choice" takes, behind each beginning, the best of these, or draws:
the server need not know of labels.

What the server counts of a prompt is compared with what we sent. Where the two differ the reply is
none, whatever it says.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from backends.api import (
    BackendError,
    Batch,
    Decoding,
    Event,
    Finding,
    FindingKind,
    Prompt,
    Reply,
    SessionInfo,
    Started,
    TokenIds,
)
from backends.rules import LOGPROB_ROUNDING, before_stop, refuse
from backends.server.client import Client, ReplyError, encoded
from backends.server.flavour import Answer, Ask, LabelLogprobs
from backends.server.found import Found
from backends.server.replicas import Shares, families
from backends.server.tokenizer import LocalTokenizer
from backends.sharing.generation import Picker, choose_label, prompt_entropy

MOST_NONCE_TOKENS = 16
"""So many tokens, at most, are put before a prompt that has to be cold."""

_Beginning: TypeAlias = tuple[int, ...]
_Encoded: TypeAlias = tuple[str, bytes]
"""A request, ready to be sent: its path and its body."""


@dataclass(frozen=True, slots=True)
class Window:
    """How many tokens of a prompt the server really sees, where the probe found that it cuts more
    off than it says; `why` is the reason of a reply that would be made of less."""

    tokens: int
    why: str


@dataclass(slots=True)
class Wire:
    """How prompts go to one server: by which flavour, to which model, with how many in flight.

    `adds_bos`: it puts the BOS token before a text itself. `trusts_cached`: what it reports of
    cached tokens can be. `label_logprobs` is what it gives, which may be less
    than others of its kind give. `cold`: no request uses what was computed before it.
    """

    client: Client
    found: Found
    tokenizer: LocalTokenizer
    window: int
    concurrency: int
    adds_bos: bool = True
    trusts_cached: bool = True
    label_logprobs: LabelLogprobs = "none"
    cold: bool = False
    salt: str = field(default_factory=lambda: secrets.token_hex(16))

    @property
    def takes_ids(self) -> bool:
        return self.found.flavour.TAKES_IDS

    @property
    def bos_id(self) -> int | None:
        return self.tokenizer.info.bos_id

    def written(self, text: str) -> str:
        """The text as this server wants it: with BOS where it adds none itself, else without."""
        bos = self.tokenizer.info.bos_text
        if self.bos_id is None or not bos:
            return text
        plain = text.removeprefix(bos)
        return plain if self.adds_bos else bos + plain

    def ask(self, token_ids: TokenIds, text: str, max_tokens: int) -> Ask:
        return Ask(
            model=self.found.model,
            token_ids=token_ids,
            text="" if self.takes_ids else self.written(text),
            max_tokens=max_tokens,
            window=self.window,
            salt=secrets.token_hex(16) if self.cold else self.salt,
            cold=self.cold,
        )

    def sent(self, prompt: Prompt) -> Prompt:
        """The prompt as it is sent: with a beginning of its own where the request has to be cold,
        and the server cannot do that itself."""
        if not self.cold or self.found.flavour.CAN_START_COLD:
            return prompt
        bos = self.tokenizer.info.bos_text
        begin = bos if bos and prompt.text.startswith(bos) else ""
        nonce = f"{secrets.token_hex(4)}\n"
        text = f"{begin}{nonce}{prompt.text.removeprefix(begin)}"
        if not self.takes_ids:  # it makes tokens of the whole text
            [token_ids] = self.tokenizer.tokenize([text])
            return replace(prompt, token_ids=token_ids, text=text)
        has_bos = self.bos_id is not None and list(prompt.token_ids[:1]) == [self.bos_id]
        [own] = self.tokenizer.tokenize([nonce])
        ids = list(prompt.token_ids)
        return replace(prompt, token_ids=[*ids[:has_bos], *own, *ids[has_bos:]], text=text)

    def texts_of(self, tokens: Sequence[int]) -> Mapping[int, str]:
        return {token: self.tokenizer.detokenize([token]) for token in tokens}

    @staticmethod
    def has_all(ask: Ask, answer: Answer) -> bool:
        """Whether each wanted token is among those that came."""
        known = answer.logprobs
        return all(token in known or text in known for token, text in ask.tokens.items())

    def encoded(self, ask: Ask) -> list[_Encoded]:
        """What is sent, one behind the other."""
        return [(one.path, encoded(one.body)) for one in self.found.flavour.requests(ask)]

    async def answer(self, requests: Sequence[_Encoded]) -> Answer:
        """Raises `ReplyError`, and `BackendError` where no request can be answered any more."""
        answer = Answer()
        read = self.found.flavour.read

        def take(event: dict[str, Any], at: float) -> None:
            answer.wrote = False
            read(event, answer)
            if answer.wrote:
                answer.first = at if answer.first is None else answer.first
                answer.last = at

        for path, data in requests:
            answer.text, answer.token_ids, answer.finish = "", [], ""
            await self.client.stream(path, data, take)
            if not answer.finish:
                raise ReplyError("the reply ended before its end: half of it, or nothing, came")
        wanted, model = self.found.model, answer.model
        # Some add a version to the name that was asked for.
        if model and not (model.startswith(wanted) or wanted.startswith(model)):
            raise ReplyError(f"the reply is of the model {model!r:.80}, and not of {wanted}")
        return answer


class ServerSession:
    """A `backends.api.Session` over a server that was found and probed."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        wire: Wire,
        info: SessionInfo,
        window: Window | None = None,
    ) -> None:
        self.info = info
        self.loop = loop
        self._wire = wire
        self._window = window
        self._said: set[Finding] = set(info.findings)

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        return self._wire.tokenizer.tokenize(texts)

    def token_texts(self, token_ids: TokenIds) -> list[str]:
        return self._wire.tokenizer.token_texts(token_ids)

    def generate(self, prompts: Sequence[Prompt], decoding: Decoding) -> Iterator[Event]:
        yield from answers_of([self], prompts, decoding, self.info.allocated_context)

    def check(self, decoding: Decoding) -> None:
        check_decoding(self._wire, decoding)

    def forget(self) -> None:
        """Another salt: what earlier requests left in the cache is none of the next one's."""
        self._wire.salt = secrets.token_hex(16)

    def close(self) -> None:
        self.leave()
        self.loop.close()

    def leave(self) -> None:
        """What `close` does, but for the event loop, which several may share."""
        self._wire.tokenizer.close()
        self.loop.run_until_complete(self._wire.client.close())

    @property
    def again(self) -> tuple[int, float]:
        """How many requests had to be sent again so far, and how long was waited for that."""
        return self._wire.client.retries, self._wire.client.waited_seconds

    @property
    def concurrency(self) -> int:
        return self._wire.concurrency

    async def reply(
        self, index: int, prompt: Prompt, decoding: Decoding
    ) -> tuple[Batch, list[Finding]]:
        """The one reply to a prompt, and what it showed of the server."""
        wire = self._wire
        given, prompt = len(prompt.token_ids), wire.sent(prompt)
        length = len(prompt.token_ids)
        labels = decoding.labels if wire.label_logprobs != "none" else ()
        began = time.perf_counter()
        findings: list[Finding] = []
        answers: dict[_Beginning, Answer] = {}
        try:
            if self._window and length > self._window.tokens:
                raise ReplyError(self._window.why)
            for beginning in ((), *beginnings(labels)):
                ask = _ask(wire, prompt, decoding, beginning)
                request = wire.encoded(ask)
                if not beginning:  # what it takes to write the first is no time of the server's
                    began = time.perf_counter()
                answers[beginning] = answer = await wire.answer(request)
                self._held_against(answer, length + len(beginning), findings)
                if wire.found.flavour.CAN_GIVE_ALL and not wire.has_all(ask, answer):
                    whole = wire.encoded(replace(ask, max_tokens=1, wants_all=True))
                    answer.logprobs = (await wire.answer(whole)).logprobs
            reply = self._made(index, prompt, decoding, answers, began)
        except ReplyError as error:
            reply = Reply(index, "failed", given, None, str(error))
        if given != length:
            # What was put before it is none of the prompt.
            reply = replace(reply, prompt_tokens=given, cached_tokens=None)
        ended = time.perf_counter()
        return self._batch(reply, answers.get(()), began, ended), findings

    def _held_against(self, answer: Answer, sent: int, findings: list[Finding]) -> None:
        seen, cached = answer.prompt_tokens, answer.cached_tokens
        if seen is None:
            self._find(findings, Finding("prompt_tokens_unknown"))
        elif seen != sent:
            kind = miscount(seen - sent, self._wire.bos_id)
            self._find(findings, Finding(kind, sent, seen))
            raise ReplyError(f"the server saw {seen} prompt tokens, and {sent} were sent")
        if cached is not None and cached > sent:
            self._find(findings, Finding("cached_tokens_false", sent, cached))
            answer.cached_tokens = None

    def _find(self, findings: list[Finding], found: Finding) -> None:
        """Once in a session: a server that cuts each of a thousand prompts is one finding."""
        if all(found.kind != said.kind for said in self._said):
            self._said.add(found)
            findings.append(found)

    def _made(
        self,
        index: int,
        prompt: Prompt,
        decoding: Decoding,
        answers: Mapping[_Beginning, Answer],
        began: float,
    ) -> Reply:
        first = answers[()]
        scored = decoding.labels if self._wire.label_logprobs != "none" else ()
        logprobs = [_token_logprobs(label, answers, self._wire) for label in scored]
        whole = tuple(map(_sum, logprobs))
        reply = Reply(
            prompt=index,
            finish="scored",
            prompt_tokens=len(prompt.token_ids),
            cached_tokens=first.cached_tokens if self._wire.trusts_cached else None,
            label_logprobs=whole if any(one is not None for one in whole) else None,
        )
        if decoding.mode == "score":
            if reply.label_logprobs is None:
                raise ReplyError("no label is among the tokens that the server reports")
            return reply
        if decoding.mode == "choice":
            # One that is not reported is less likely than all that are.
            known = [i for i, each in enumerate(logprobs) if None not in each]
            if not known:
                raise ReplyError("no label is among the tokens that the server reports")
            labels = [decoding.labels[i] for i in known]
            steps = [[one for one in logprobs[i] if one is not None] for i in known]
            label = labels[choose_label(labels, steps, Picker(decoding, prompt))]
            text = self._wire.tokenizer.detokenize(label)
            return replace(reply, finish="label", token_ids=label, text=text)
        text = before_stop(first.text, decoding.stop)
        token_ids = tuple(first.token_ids[: decoding.max_tokens])
        count = first.completion_tokens or len(token_ids)
        per_token = None
        # Several tokens that came in one piece have no time between them.
        if count > 1 and first.first is not None and (first.last or 0.0) > first.first:
            per_token = 1000 * ((first.last or 0.0) - first.first) / (count - 1)
        return replace(
            reply,
            finish="stop" if len(text) < len(first.text) or first.finish == "stop" else "length",
            text=text,
            token_ids=token_ids,
            time_to_first_token_ms=None if first.first is None else 1000 * (first.first - began),
            time_per_output_token_ms=per_token,
        )

    def _batch(self, reply: Reply, answer: Answer | None, began: float, ended: float) -> Batch:
        """With the server's own times, where it gives any that can be."""
        if answer is None or reply.finish == "failed":
            return Batch((reply,), began, ended)
        computed = None
        if reply.cached_tokens is not None:
            computed = reply.prompt_tokens - reply.cached_tokens
        at_work = (answer.prefill_seconds or 0.0) + (answer.decode_seconds or 0.0)
        if at_work > ended - began:
            return Batch((reply,), began, ended, computed)
        later = max(len(reply.token_ids) - 1, 0)
        decodes = reply.finish in ("stop", "length") and bool(answer.decode_seconds)
        return Batch(
            replies=(reply,),
            began=began,
            ended=ended,
            prefill_tokens=computed,
            prefill_seconds=answer.prefill_seconds or None,
            decode_tokens=later if decodes else None,
            decode_seconds=answer.decode_seconds if decodes else None,
        )


def answers_of(
    servers: Sequence[ServerSession],
    prompts: Sequence[Prompt],
    decoding: Decoding,
    allocated_context: int,
) -> Iterator[Event]:
    """The events of these prompts, by one server or several that serve the same. Raises
    `BackendError` where none is left; what was answered before comes first."""
    for server in servers:
        server.check(decoding)
    refused, accepted = refuse(prompts, decoding, allocated_context)
    if refused:
        now = time.perf_counter()
        yield Batch(refused, now, now)
    before = [server.again for server in servers]
    yield from _Call(servers, prompts, decoding).events(accepted)
    after = [server.again for server in servers]
    if requests := sum(now[0] - then[0] for then, now in zip(before, after, strict=True)):
        waited = sum(now[1] - then[1] for then, now in zip(before, after, strict=True))
        yield Finding("retried", requests=requests, seconds=waited)


class _Call:
    """So many requests at once to each server, each as soon as one before it has ended.

    The event loop runs only while the caller waits for the next event; what was read off the
    connections meanwhile is there at once then.
    """

    def __init__(
        self, servers: Sequence[ServerSession], prompts: Sequence[Prompt], decoding: Decoding
    ) -> None:
        self._loop = servers[0].loop
        self._servers = servers
        self._left = set(range(len(servers)))
        self._prompts = prompts
        self._decoding = decoding
        self._started: set[int] = set()
        self._events: deque[Event] = deque()
        self._is_new = asyncio.Event()

    def events(self, accepted: Sequence[int]) -> Iterator[Event]:
        # In the order of their prefix tree, as a server that holds one prompt's cache wants them.
        shares = Shares(families({index: self._prompts[index].token_ids for index in accepted}))
        # A server may be lost when the others are done with their own.
        while shares.are_left:
            yield from self._round(shares)

    def _round(self, shares: Shares) -> Iterator[Event]:
        tasks = [
            self._loop.create_task(self._work(number, shares))
            for number in sorted(self._left)
            for _ in range(self._servers[number].concurrency)
        ]
        for task in tasks:
            task.add_done_callback(lambda _: self._is_new.set())
        try:
            while not all(task.done() for task in tasks):
                self._loop.run_until_complete(self._wait())
                while self._events:
                    yield self._events.popleft()
                for task in tasks:
                    if task.done():
                        task.result()
        finally:
            for task in tasks:
                task.cancel()
            self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))

    async def _wait(self) -> None:
        """Until there is an event, or a task has ended."""
        await self._is_new.wait()
        self._is_new.clear()

    async def _work(self, number: int, shares: Shares) -> None:
        server = self._servers[number]
        # Of one that is lost, other requests may still be in flight.
        while number in self._left and (index := shares.take(number)) is not None:
            if index not in self._started:
                self._started.add(index)
                self._tell(Started((index,)))
            try:
                batch, findings = await server.reply(index, self._prompts[index], self._decoding)
            except BackendError:
                shares.give_back(number, index)
                if self._left <= {number}:
                    raise
                shares.leave(number)
                if number in self._left:
                    self._left.discard(number)
                    self._tell(Finding("server_lost", len(self._servers), len(self._left)))
                return
            for finding in findings:
                self._tell(finding)
            self._tell(batch)

    def _tell(self, event: Event) -> None:
        self._events.append(event)
        self._is_new.set()


def check_decoding(wire: Wire, decoding: Decoding) -> None:
    """Raises `BackendError` for what this server cannot do."""
    flavour = wire.found.flavour
    if decoding.mode != "free" and wire.label_logprobs == "none":
        raise BackendError(
            f"{decoding.mode} decoding compares label log-probabilities, and {flavour.TITLE} "
            "reports none",
            "Use --decoding free.",
        )
    if decoding.ignore_end and not flavour.CAN_IGNORE_END:
        raise BackendError(
            f"{flavour.TITLE} cannot be made to write on behind the end of a reply",
            "Time it by `harness run`, or use another server for fixed lengths.",
        )


def miscount(difference: int, bos_id: int | None) -> FindingKind:
    """What a wrong count of prompt tokens means: so many more, or fewer, than were sent."""
    if difference == 1:
        return "bos_added" if bos_id is None else "bos_doubled"
    if difference == -1 and bos_id is not None:
        return "bos_missing"
    return "prompt_cut" if difference < 0 else "chat_template"


def _sum(logprobs: Sequence[float | None]) -> float | None:
    """`None` where one is not known."""
    known = [one for one in logprobs if one is not None]
    return sum(known) if len(known) == len(logprobs) else None


def beginnings(labels: Sequence[_Beginning]) -> list[_Beginning]:
    """Of each label all but its last token, and shorter; the empty one is left out."""
    return sorted({label[:depth] for label in labels for depth in range(1, len(label))})


def _following(labels: Sequence[_Beginning], beginning: _Beginning) -> list[int]:
    depth = len(beginning)
    return sorted({label[depth] for label in labels if label[:depth] == beginning})


def _ask(wire: Wire, prompt: Prompt, decoding: Decoding, beginning: _Beginning) -> Ask:
    writes = decoding.mode == "free" and not beginning
    text = prompt.text + (wire.tokenizer.detokenize(beginning) if beginning else "")
    ask = wire.ask([*prompt.token_ids, *beginning], text, decoding.max_tokens if writes else 1)
    scores = wire.label_logprobs != "none"
    wanted = _following(decoding.labels, beginning) if scores else []
    seed = 0
    if decoding.temperature > 0:
        seed = prompt_entropy(decoding.seed, prompt.token_ids, prompt.attempt) % 2**63
    return replace(
        ask,
        stop=decoding.stop if writes else (),
        temperature=decoding.temperature if writes else 0.0,
        seed=seed,
        ignore_end=decoding.ignore_end and writes,
        tokens=wire.texts_of(wanted),
    )


def _token_logprobs(
    label: _Beginning, answers: Mapping[_Beginning, Answer], wire: Wire
) -> list[float | None]:
    """Of each token behind those before it; `None` for what the server does not report."""
    found: list[float | None] = []
    for depth, token in enumerate(label):
        known = answers[label[:depth]].logprobs
        logprob = known.get(token)
        if logprob is None:
            logprob = known.get(wire.tokenizer.detokenize([token]))
        # More than a probability can be is no probability: the audit refuses it as nonsense.
        is_one = logprob is not None and logprob <= LOGPROB_ROUNDING
        found.append(min(logprob, 0.0) if is_one and logprob is not None else None)
    return found
