"""How many examples of one voter fit into each context, as a run would pack them.

With what each example adds (`harness.fit.counting`), that is a sum. Each answer is then compared
with a whole prompt. Where a tokenizer breaks the rule, the voter is packed as a run packs it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.errors import UsageError
from harness.fit.counting import Counts, ExampleCounter
from harness.workload.encoders import Item
from harness.workload.packing import Packer, Ruler, Tokenize
from harness.workload.prompt import Writer
from harness.workload.voters import Voter

_MOST_WHOLE = 2**16
"""So many tokens are tokenized whole to be compared with a sum: those of a prompt of all examples,
or of all prompts at one length. More take a tokenizer seconds; there, the longest prompt that fits
and the shortest that does not are compared."""


@dataclass(frozen=True, slots=True)
class VoterFit:
    """One voter at one length, in tokens without the reply.

    `examples` of the `wanted` fit, and its longest prompt then has `prompt_tokens`, of which
    `example_tokens` are those of examples; with all that are wanted it has `all_tokens`.
    """

    examples: int
    wanted: int
    prompt_tokens: int
    example_tokens: int
    all_tokens: int


class Gauge:
    """One voter, as one template writes it and one tokenizer counts it."""

    def __init__(
        self, voter: Voter, writer: Writer, tokenize: Tokenize, counter: ExampleCounter, seed: int
    ) -> None:
        self.voter = voter
        self._writer = writer
        self._tokenize = tokenize
        self._seed = seed
        rows, self._counts = counter.tokens(voter.examples)
        # Of training rows that are no examples of this voter, nothing is wanted.
        self._of_row = np.zeros(rows.max(initial=0) + 1, dtype=np.int64)
        self._of_row[rows] = self._counts
        self._bare: dict[int, tuple[int, Item]] = {}
        self._whole: dict[tuple[int, Item], int] = {}

    @property
    def mean_tokens(self) -> float:
        """Of an example."""
        return float(self._counts.mean()) if len(self._counts) else 0.0

    def fit(self, room: int, shots: int | None) -> VoterFit:
        """At so many tokens for a prompt, with `shots` examples or all that there are."""
        ruler = Ruler(self._writer, (self._tokenize,), room, None)
        packer = Packer(self.voter, ruler, self._seed)
        there = len(self.voter.examples)
        wanted = there if shots is None else min(shots, there)
        if not packer.items or not wanted or not packer.available(1):
            # Every query, or every example of a class, takes more than half of the room.
            longest, query = packer.longest(())
            everything = self._all(ruler, self.voter.examples[:wanted], query)
            return VoterFit(0, wanted, longest, 0, everything)
        bare, query = self._bare_prompt(packer)
        sums = self._sums(packer, wanted, room - bare)
        # `sums[k]` is of k examples. The last may be of one that does not fit.
        count = max(int(np.searchsorted(sums, room - bare, side="right")) - 1, 0)
        following = min(count + 1, len(sums) - 1)
        # With a number of examples, texts that are too long are passed over; of all, none is.
        passes_over = shots is not None and packer.available(wanted) == wanted
        every = packer.known[:wanted] if passes_over else self.voter.examples[:wanted]
        everything = self._all(ruler, every, query)
        [beyond] = ruler.lengths(packer.examples(following), [query])
        items = packer.items if len(packer.items) * room <= _MOST_WHOLE else [query]
        prompt = max(ruler.lengths(packer.examples(count), items if count else packer.items))
        is_sum = beyond == bare + sums[following] and prompt == bare + sums[count]
        if count and not is_sum:
            return self._packed(packer, ruler, wanted, everything)
        return VoterFit(count, wanted, prompt, int(sums[count]), everything)

    def _bare_prompt(self, packer: Packer) -> tuple[int, Item]:
        """What the longest prompt has beside its examples, and whose prompt it is."""
        # The queries that are not too long grow with the room, so their number says which.
        key = len(packer.items)
        if key not in self._bare:
            [first] = packer.examples(1)
            longest, query = packer.longest([first])
            self._bare[key] = longest - int(self._of_row[first.row]), query
        return self._bare[key]

    def _sums(self, packer: Packer, wanted: int, room: int) -> Counts:
        """Tokens of the first k examples, up to those that are wanted, or beyond the room."""
        most = 64
        while True:
            there = packer.available(min(most, wanted))
            rows = [one.row for one in packer.known[: min(there, wanted)]]
            sums = np.concatenate([[0], np.cumsum(self._of_row[rows])])
            if sums[-1] > room or len(rows) < most:
                return sums
            most *= 2

    def _all(self, ruler: Ruler, examples: Sequence[Item], query: Item) -> int:
        """Tokens of the query's prompt with these examples, which are all that are wanted."""
        key = len(examples), query
        if self._writer.kind == "text" or key not in self._whole:
            self._whole[key] = self._measured(ruler, examples, query)
        return self._whole[key]

    def _measured(self, ruler: Ruler, examples: Sequence[Item], query: Item) -> int:
        [some] = ruler.lengths(examples[:1], [query])
        if len(examples) == len(self._counts):
            total = some + int(self._counts[1:].sum())
        else:
            total = some + sum(int(self._of_row[one.row]) for one in examples[1:])
        if total > _MOST_WHOLE:
            return total
        [whole] = ruler.lengths(examples, [query])
        return whole

    def _packed(self, packer: Packer, ruler: Ruler, wanted: int, everything: int) -> VoterFit:
        """As a run packs it, with prompts that are tokenized whole."""
        count = wanted
        if packer.available(wanted) < wanted or not packer.holds(wanted):
            try:
                count = min(packer.most(), wanted)
            except UsageError:  # not one
                count = 0
        shown = packer.examples(count)
        longest = max(ruler.lengths(shown, packer.items))
        return VoterFit(count, wanted, longest, packer.tokens_of(shown), everything)
