"""What the events of one call must say together: `backends.records` looks at each by itself.

An engine that reports what cannot be is not believed in anything else. What it says is compared
with what it was given, with what it said before, and with our own clock.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TypeAlias

from harness.contract import (
    Batch,
    Decoding,
    DecodingMode,
    Event,
    Finding,
    Finish,
    Progress,
    Prompt,
    Reply,
    SessionInfo,
    Started,
    records,
    reply_reserve,
    wire,
)

_Index: TypeAlias = int

_FINISHES: dict[DecodingMode, tuple[Finish, ...]] = {
    "free": ("stop", "length"),
    "choice": ("label",),
    "score": ("scored",),
}
_REFUSED: tuple[Finish, ...] = ("overflow", "empty", "failed")
_TOKEN_CHARACTERS = 1024  # the longest tokens in use are runs of some hundred spaces
_ROUNDING = 0.001  # seconds, for servers that count in milliseconds
_DRIFT = 1.01  # of one clock against another
MOST_FINDINGS = 100  # of one call: there are some kinds, and one for each server of several


class Audit:
    """One call of `generate`. `clock_began`: where the engine's clock was when it was made."""

    def __init__(
        self,
        info: SessionInfo,
        prompts: Sequence[Prompt],
        decoding: Decoding,
        clock_began: float | None,
    ) -> None:
        self.started: set[_Index] = set()
        self.answered: set[_Index] = set()
        self._decoding = decoding
        self._clock_began = clock_began
        self._is_mock = info.is_mock
        # In "score" the reserve is for the labels, and nothing is generated.
        self._reply_tokens = reply_reserve(decoding) if decoding.mode != "score" else 0
        self._vocabulary_size = info.vocabulary_size
        self._takes_ids = info.capabilities.prompts == "token_ids"
        self._lengths = [len(prompt.token_ids) for prompt in prompts]
        # What it counts of a text we do not know; no tokenizer makes more of it than bytes.
        given = (len(one.text.encode(errors="replace")) for one in prompts)
        self._prompt_tokens = sum(
            self._lengths if self._takes_ids else map(max, self._lengths, given)
        )
        self._prefill_tokens = 0
        self._decode_tokens = 0
        self._signed_tokens = 0
        self._findings = 0

    @property
    def open_prompts(self) -> list[_Index]:
        """Begun and not answered."""
        return sorted(self.started - self.answered)

    def take(self, event: Event, elapsed_seconds: float) -> bool:
        """Whether it brings the call on: a sign of life alone does not.

        `elapsed_seconds` have passed by our clock since the call was made. Raises `wire.WireError`.
        """
        if isinstance(event, Started):
            self._start(event.prompts)
            return bool(event.prompts)
        if isinstance(event, Finding):
            # Each is stored as it comes.
            self._findings += 1
            _check(self._findings <= MOST_FINDINGS, "finding", f"more than {MOST_FINDINGS} a call")
            return False
        if isinstance(event, Progress):
            self._sign(event.prompt_tokens)
            return event.prompt_tokens > 0
        self._clock(event, elapsed_seconds)
        self._count(event)
        new = {reply.prompt for reply in event.replies} - self.answered
        _check(len(new) == len(event.replies), "reply.prompt", "a prompt is answered twice")
        for reply in event.replies:
            self._reply(reply, event.engine_seconds)
        self.answered |= new
        return bool(new)

    def _start(self, prompts: Collection[_Index]) -> None:
        new = set(prompts) - self.started - self.answered
        _check(len(new) == len(prompts), "started.prompts", "a prompt is begun twice")
        self.started |= new

    def _sign(self, tokens: int) -> None:
        """An engine may evaluate each prompt again for every beginning of a label."""
        self._signed_tokens += tokens
        labels = self._decoding.labels
        longest = max(map(len, labels), default=0)
        most = self._prompt_tokens + len(self._lengths) * longest
        most *= 1 + sum(len(label) - 1 for label in labels)
        _check(
            self._signed_tokens <= most,
            "progress.prompt_tokens",
            f"{self._signed_tokens} in all, and the prompts with their labels have {most}",
        )

    def _clock(self, batch: Batch, elapsed_seconds: float) -> None:
        if self._clock_began is not None:
            _check(
                batch.began >= self._clock_began - _ROUNDING,
                "batch.began",
                f"{batch.began} is before the call, at {self._clock_began}",
            )
        if not self._is_mock:  # it may report times that no clock took
            limit = elapsed_seconds * _DRIFT + _ROUNDING
            _check(
                batch.engine_seconds <= limit,
                "batch.ended",
                f"{batch.engine_seconds:.3f} s of work, {elapsed_seconds:.3f} s after the call",
            )
        at_work = (batch.prefill_seconds or 0.0) + (batch.decode_seconds or 0.0)
        _check(
            at_work <= batch.engine_seconds * _DRIFT + _ROUNDING,
            "batch.prefill_seconds and decode_seconds",
            f"{at_work:.3f} s of {batch.engine_seconds:.3f} s",
        )

    def _count(self, batch: Batch) -> None:
        for name, tokens, seconds in (
            ("prefill", batch.prefill_tokens, batch.prefill_seconds),
            ("decode", batch.decode_tokens, batch.decode_seconds),
        ):
            # Its speed would be infinite. A time of `None` was not reported, and that is no fault.
            _check(not tokens or seconds != 0, f"batch.{name}_seconds", f"0 for {tokens} tokens")
        self._prefill_tokens += batch.prefill_tokens or 0
        _check(
            self._prefill_tokens <= self._prompt_tokens,
            "batch.prefill_tokens",
            f"{self._prefill_tokens} in all, and the prompts have {self._prompt_tokens}",
        )
        self._decode_tokens += batch.decode_tokens or 0
        most = len(self._lengths) * self._reply_tokens
        _check(
            self._decode_tokens <= most,
            "batch.decode_tokens",
            f"{self._decode_tokens} in all, and the replies may have {most}",
        )

    def _reply(self, reply: Reply, batch_seconds: float) -> None:
        sent = self._lengths[reply.prompt]
        if self._takes_ids:
            _check(
                reply.prompt_tokens == sent,
                "reply.prompt_tokens",
                f"{reply.prompt_tokens} of a prompt of {sent}",
            )
        if reply.finish in _REFUSED:
            return
        _check(reply.prompt in self.started, "reply.prompt", "a prompt is answered and not begun")
        finishes = _FINISHES[self._decoding.mode]
        _check(
            reply.finish in finishes,
            "reply.finish",
            f"{reply.finish!r} is not {' or '.join(finishes)}, as {self._decoding.mode} decoding "
            "ends",
        )
        self._generated(reply)
        seconds = (reply.time_to_first_token_ms or 0.0) / 1000
        seconds += (reply.time_per_output_token_ms or 0.0) / 1000 * max(len(reply.token_ids) - 1, 0)
        _check(
            seconds <= batch_seconds * _DRIFT + _ROUNDING,
            "reply.time_to_first_token_ms and time_per_output_token_ms",
            f"the last token came after {seconds:.3f} s of a batch of {batch_seconds:.3f} s",
        )

    def _generated(self, reply: Reply) -> None:
        records.check_ids("reply.token_ids", reply.token_ids, self._vocabulary_size)
        count, most = len(reply.token_ids), self._reply_tokens
        _check(count <= most, "reply.token_ids", f"{count}, and at most {most} were wanted")
        length, longest = len(reply.text), most * _TOKEN_CHARACTERS
        _check(
            length <= longest, "reply.text", f"{length} characters, and {most} tokens were wanted"
        )
        if self._takes_ids and self._decoding.mode == "choice":
            _check(
                reply.token_ids in self._decoding.labels,
                "reply.token_ids",
                "they are none of the labels",
            )


def _check(holds: bool, field: str, otherwise: str) -> None:
    if not holds:
        raise wire.WireError(f"{field}: {otherwise}")
