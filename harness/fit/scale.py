"""All voters in one encoding, written by one template and counted by one tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache, cached_property

from harness.fit.counting import ExampleCounter
from harness.fit.gauge import Gauge, VoterFit
from harness.workload.packing import Tokenize, label_tokens, reserve_of
from harness.workload.prompt import Writer
from harness.workload.voters import Voter

_SAMPLED = 16  # examples


class Scale:
    """Each voter is to show `shots` examples, or all. `reserve` is the room for a reply."""

    def __init__(
        self,
        voters: Sequence[Voter],
        writer: Writer,
        tokenize: Tokenize,
        *,
        max_tokens: int | None,
        shots: int | None,
        seed: int,
    ) -> None:
        self.voters = voters
        self.writer = writer
        self.tokenize = tokenize
        self.reserve = reserve_of(max_tokens, label_tokens(writer, tokenize, voters[0]))
        self._shots = shots
        self._seed = seed
        self._counter = ExampleCounter(writer, self._count)
        # Of an encoding that might help, one voter is enough.
        self._gauge = cache(self._make_gauge)

    def fit(self, voter: int, length: int) -> VoterFit:
        """One voter at a length that holds prompt and reply."""
        return self._gauge(voter).fit(length - self.reserve, self._shots)

    @property
    def mean_tokens(self) -> float:
        """Of an example, over all examples of all voters."""
        means = [self._gauge(voter).mean_tokens for voter in range(len(self.voters))]
        return sum(means) / len(means)

    @cached_property
    def tokens_per_number(self) -> float:
        """With the separator before it; 0 where an example has one number."""
        some = self.voters[0].examples[:_SAMPLED]
        cut = [replace(one, words=one.words[:1]) for one in some]
        [whole, short] = [
            sum(self._count([self.writer.example(one) for one in items])) for items in (some, cut)
        ]
        return (whole - short) / max(sum(len(one.words) - 1 for one in some), 1)

    def _count(self, texts: Sequence[str]) -> list[int]:
        return list(map(len, self.tokenize(texts)))

    def _make_gauge(self, voter: int) -> Gauge:
        return Gauge(self.voters[voter], self.writer, self.tokenize, self._counter, self._seed)
