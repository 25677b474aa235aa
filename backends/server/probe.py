"""What a server does to prompts, found by a few requests before the run begins.

- A short prompt that nobody has sent before: its count of tokens shows a BOS token too many or too
  few and a chat template; nothing of it can be cached.
- A prompt as long as the run's may be, with another beginning: where both give the very same
  log-probabilities, the server has not seen the beginning, whatever it counts. The same with
  another end. A server whose answer changes by much has seen both; one whose answer changes by
  little is prompted again, because what is cached changes the last digits too.
- As many long prompts at once as will be in flight, four at most: a server may divide its context.

An honest server of whatever model passes: what is compared is whether the answer depends on the
beginning at all, and not whether it is right. More is sent only where something was found, to know
how much the server really sees.
"""

from __future__ import annotations

import asyncio
import math
import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from backends.api import Finding, Side
from backends.server.client import ReplyError
from backends.server.flavour import Answer
from backends.server.session import Window, Wire, miscount

MOST_AT_ONCE = 4
_FEW_CACHED = 8  # tokens that a nonce may have in common with anything
_NONCE_TOKENS = 6  # by so many tokens may two heads differ
_SURELY_SEEN = 0.5  # nats: no rounding changes a log-probability by so much
_SAME = 1e-6
_LEAST = 64  # tokens: a shorter prompt has no room for a head, a body and an end
_GREEDY_TOKENS = 8
_SENTENCE_TOKENS = 16
_WORDS = ("zebra", "piano", "lemon", "river", "candle", "rocket", "button", "garden")
_BODY = "The next line says nothing that is of use here. "
_TAILS = (
    "\nThe word at the very beginning of this text is:",
    "\nIn other words, the first word of all these was:",
)


@dataclass(frozen=True, slots=True)
class Probed:
    """`context` is what it takes, where it says of none and takes less than was wanted."""

    findings: tuple[Finding, ...]
    window: Window | None
    context: int | None


@dataclass(frozen=True, slots=True)
class _Sent:
    length: int
    answer: Answer
    nonce: str

    @property
    def off(self) -> int | None:
        """By how much the server counts otherwise; `None` where it does not count."""
        seen = self.answer.prompt_tokens
        return None if seen is None else seen - self.length


async def probe(wire: Wire, allocated: int) -> Probed:
    """Sets what `wire` has to know of the server. Raises `BackendError`."""
    return await _Probe(wire, allocated).whole()


class _Probe:
    def __init__(self, wire: Wire, allocated: int) -> None:
        self._wire = wire
        self._longest = allocated - 1  # room for the one token of the reply
        self._findings: dict[str, Finding] = {}
        self._window: Window | None = None
        self._context: int | None = None
        self._cached = 0  # the most that it reported of any prompt
        self._times: dict[tuple[int, int], int] = {}  # of the body, by length and tail
        every = [ids[0] for ids in wire.tokenizer.tokenize([f" {word}" for word in _WORDS]) if ids]
        self._tokens = wire.texts_of(sorted(set(every)))

    async def whole(self) -> Probed:
        await self._learn_logprobs()
        await self._count_short()
        if self._longest >= _LEAST and "chat_template" not in self._findings:
            await self._look_at_long()
            if self._window is None and self._wire.concurrency > 1 and not self._is_cut:
                await self._look_at_several()
        # What begins with a nonce was never sent before; without its beginning, it may have been.
        if self._cached > _FEW_CACHED and not self._is_cut:
            self._wire.trusts_cached = False
            self._find(Finding("cached_tokens_false", 0, self._cached))
        client = self._wire.client
        if client.retries:
            self._find(Finding("retried", requests=client.retries, seconds=client.waited_seconds))
        return Probed(
            tuple(self._findings.values()),
            self._window,
            self._context,
        )

    @property
    def _is_cut(self) -> bool:
        of_cuts = {"prompt_cut", "head_unproven", "context_smaller", "context_divided"}
        return not self._findings.keys().isdisjoint(of_cuts)

    def _find(self, found: Finding) -> None:
        self._findings.setdefault(found.kind, found)

    async def _learn_logprobs(self) -> None:
        """Some servers refuse log-probabilities, or leave them out, by how they were started."""
        wire = self._wire
        if wire.label_logprobs == "none":
            return
        try:
            sent = await self._send(_short())
        except ReplyError:
            wire.label_logprobs = "none"
            return
        if not sent.answer.logprobs:
            wire.label_logprobs = "none"

    async def _count_short(self) -> None:
        """BOS, chat template and cached tokens, by two prompts of different lengths."""
        wire = self._wire
        first = await self._send(_short())
        if first.off is None:
            self._find(Finding("prompt_tokens_unknown"))
            return
        if first.off == -1 and not wire.takes_ids and wire.bos_id is not None:
            # It adds no BOS itself, so that our text has to bring it.
            wire.adds_bos = False
            first = await self._send(_short())
        if not first.off:
            return
        second = await self._send(_short(3))
        is_same = second.off in (None, first.off)
        kind = miscount(first.off, wire.bos_id) if is_same else "tokens_differ"
        if kind == "prompt_cut":  # of a short prompt: it counts otherwise
            kind = "tokens_differ"
        self._find(Finding(kind, first.length, first.answer.prompt_tokens))

    async def _look_at_long(self) -> None:
        try:
            first = await self._long(self._longest, _WORDS[0])
        except ReplyError as error:
            await self._measure_context(error)
            return
        off = self._off()
        short = self._cut(first, off)
        seen_head = await self._depends_on_head(first)
        if short is not None:
            side: Side = "head" if not seen_head else await self._side(first)
            self._find(Finding("prompt_cut", first.length, short, side))
        elif not seen_head and self._wire.label_logprobs == "none":
            self._find(Finding("head_unproven", first.length))
        elif not seen_head:
            seen = await self._head_window()
            self._cut_to(seen, Finding("prompt_cut", first.length, seen, "head"))
        elif not await self._depends_on_tail(first):
            self._cut_to(_LEAST, Finding("prompt_cut", first.length, None, "tail"))

    def _cut_to(self, seen: int, found: Finding) -> None:
        self._find(found)
        where = f"the {found.side}" if found.side else "a part"
        load = f" with {found.at_once} requests at once" if found.at_once else ""
        why = (
            f"the server drops {where} of prompts longer than about {seen} tokens{load}, and "
            "counts them as whole"
        )
        self._window = Window(seen, why)

    def _off(self) -> int:
        """By how much it counts every prompt wrongly."""
        of_all = ("bos_doubled", "bos_added", "bos_missing")
        found = next((self._findings[one] for one in of_all if one in self._findings), None)
        return 0 if found is None else (found.seen or 0) - (found.declared or 0)

    def _cut(self, sent: _Sent, off: int) -> int | None:
        """How many tokens were seen, where that is less than were sent."""
        seen = sent.answer.prompt_tokens
        return seen if seen is not None and seen < sent.length + off else None

    async def _side(self, first: _Sent) -> Side:
        return "middle" if await self._depends_on_tail(first) else "tail"

    async def _depends_on_head(self, first: _Sent) -> bool:
        length = self._longest
        second = await self._long(length, _WORDS[1])
        return await self._differ(first, second, [(length, _WORDS[2], 0), (length, _WORDS[3], 0)])

    async def _depends_on_tail(self, first: _Sent) -> bool:
        length = self._longest
        second = await self._long(length, _WORDS[0], tail=1, nonce=first.nonce)
        # A server that has seen the end has seen another prompt, whatever the last digits are.
        return _apart(first.answer, second.answer) > _SAME

    async def _differ(self, one: _Sent, other: _Sent, more: Sequence[tuple[int, str, int]]) -> bool:
        """Whether two answers are to different prompts. Where that is in doubt, two more prompts
        are sent, one behind the other: then both find the same in the cache."""
        apart = _apart(one.answer, other.answer)
        if apart >= _SURELY_SEEN:
            return True
        if apart <= _SAME and self._wire.label_logprobs != "none":
            return False
        third, fourth = [await self._long(length, word, tail) for length, word, tail in more]
        return _apart(third.answer, fourth.answer) > _SAME

    async def _head_window(self) -> int:
        """The length up to which the beginning is seen."""

        async def is_seen(length: int) -> int | None:
            one = await self._long(length, _WORDS[5])
            other = await self._long(length, _WORDS[6])
            more = [(length, _WORDS[2], 0), (length, _WORDS[3], 0)]
            return one.length if await self._differ(one, other, more) else None

        return await self._longest_that(is_seen)

    async def _longest_that(self, holds: Callable[[int], Awaitable[int | None]]) -> int:
        """The tokens of the longest prompt for which it holds, about; 0 where it holds for none.

        `holds` is given a length, and says how long the prompt was, or `None`.
        """
        low, high, seen = _LEAST, self._longest, 0
        # A body is made of sentences: lengths that are nearer than one are the same prompt.
        while high - low > max(_SENTENCE_TOKENS, self._longest // 64):
            middle = (low + high) // 2
            if (length := await holds(middle)) is None:
                high = middle
            else:
                low, seen = middle, max(seen, length)
        return seen

    async def _measure_context(self, error: ReplyError) -> None:
        """How long a prompt it takes, where it refuses the longest."""
        if error.status not in (400, 413, 422, 500):
            raise error

        async def is_taken(length: int) -> int | None:
            try:
                return (await self._long(length, _WORDS[0])).length
            except ReplyError:
                return None

        low = await self._longest_that(is_taken)
        if self._wire.found.context is None:
            self._context = max(low + 1, 1)
        else:
            self._find(Finding("context_smaller", self._wire.found.context, low + 1))

    async def _look_at_several(self) -> None:
        """Halves the length until so many at once go well."""
        count = min(self._wire.concurrency, MOST_AT_ONCE)
        length, found = self._longest, None
        while length >= _LEAST:
            trouble = await self._trouble(length, count)
            if trouble is None:
                break
            found = found or trouble
            length //= 2
        if found is None:
            return
        seen = length if length >= _LEAST else 0
        if found.kind == "prompt_cut":  # counted as whole
            self._cut_to(seen, replace(found, seen=seen))
        else:
            self._find(replace(found, seen=found.seen or seen))

    async def _trouble(self, length: int, count: int) -> Finding | None:
        """What goes wrong with so many prompts of a length at once, and not with one."""
        got = await asyncio.gather(
            *(self._long(length, word) for word in _WORDS[:count]), return_exceptions=True
        )
        for one in got:
            if isinstance(one, BaseException) and not isinstance(one, ReplyError):
                raise one
        answered = [one for one in got if isinstance(one, _Sent)]
        divided = Finding("context_divided", length, None, at_once=count)
        if len(answered) < len(got):
            return divided
        if short := [seen for one in answered if (seen := self._cut(one, self._off()))]:
            return replace(divided, seen=min(short), side="head")
        if self._wire.label_logprobs == "none":
            return None
        pairs = ((a, b) for i, a in enumerate(answered) for b in answered[:i])
        if any(_apart(a.answer, b.answer) <= _SAME for a, b in pairs):
            return Finding("prompt_cut", length, None, "head", at_once=count)
        return None

    async def _long(self, length: int, word: str, tail: int = 0, nonce: str = "") -> _Sent:
        """A prompt of about so many tokens, and not more, with this word at its beginning, behind
        a nonce: one that was sent before where it is given."""
        head, end = f"{nonce or secrets.token_hex(3)} {word}. ", _TAILS[tail]
        if (length, tail) not in self._times:
            base, more = (len(self._ids(head + _BODY * times + end)) for times in (1, 11))
            room = length - base - _NONCE_TOKENS
            self._times[length, tail] = max(0, 1 + int(room / ((more - base) / 10)))
        text = head + _BODY * self._times[length, tail] + end
        return await self._send(text, nonce)

    def _ids(self, text: str) -> list[int]:
        [ids] = self._wire.tokenizer.tokenize([text])
        bos = self._wire.bos_id
        return ids if bos is None or ids[:1] == [bos] else [bos, *ids]

    async def _send(self, text: str, nonce: str = "") -> _Sent:
        wire = self._wire
        ids = self._ids(text)
        has_logprobs = wire.label_logprobs != "none"
        ask = wire.ask(ids, text, 1 if has_logprobs else _GREEDY_TOKENS)
        ask = replace(ask, tokens=self._tokens if has_logprobs else {})
        answer = await wire.answer(wire.encoded(ask))
        if not nonce:
            self._cached = max(self._cached, answer.cached_tokens or 0)
        return _Sent(len(ids), answer, text.split(maxsplit=1)[0])


def _short(times: int = 1) -> str:
    return f"{secrets.token_hex(8)}. " + _BODY * times


def _apart(one: Answer, other: Answer) -> float:
    """The largest difference of two answers' log-probabilities; of texts 0 where they are equal."""
    if not (one.logprobs and other.logprobs):
        return 0.0 if one.text == other.text else math.inf
    shared = one.logprobs.keys() & other.logprobs.keys()
    if not shared:
        return math.inf
    return max(abs(one.logprobs[key] - other.logprobs[key]) for key in shared)
