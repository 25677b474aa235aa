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

_MOST_WHOLE = 2**18
"""The longest prompt, in tokens, of all examples that is tokenized whole, to compare it with the
sum. A longer one takes a tokenizer seconds; prompts that fit are compared, however long."""


@dataclass(frozen=True, slots=True)
class VoterFit:
    """One voter at one length, in tokens without the reply.

    `examples` of the `asked` fit, and its longest prompt then has `prompt_tokens`, of which
    `example_tokens` are those of examples; with all that were asked for it has `all_tokens`.
    """

    examples: int
    asked: int
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
        self._counts = counter.tokens(voter.examples)
        self._of_row = np.zeros(1 + max((one.row for one in voter.examples), default=0), np.int64)
        for one, tokens in zip(voter.examples, self._counts, strict=True):
            self._of_row[one.row] = tokens
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
        asked = there if shots is None else min(shots, there)
        if not packer.items or not asked or not packer.available(1):
            # Every query, or every example of a class, takes more than half of the room.
            items = packer.items or self.voter.queries[:1]
            lengths = ruler.lengths((), items)
            query = items[lengths.index(max(lengths))]
            everything = self._all(ruler, self.voter.examples[:asked], query)
            return VoterFit(0, asked, max(lengths), 0, everything)
        bare, query = self._bare_prompt(packer, ruler)
        sums = self._sums(packer, asked, room - bare)
        # `sums[k]` is of k examples. The last may be of one that does not fit.
        count = max(int(np.searchsorted(sums, room - bare, side="right")) - 1, 0)
        following = min(count + 1, len(sums) - 1)
        [real] = ruler.lengths(packer.examples(following), [query])
        # With a number of examples, texts that are too long are passed over; of all, none is.
        passes_over = shots is not None and packer.available(asked) == asked
        wanted = packer.known[:asked] if passes_over else self.voter.examples[:asked]
        everything = self._all(ruler, wanted, query)
        if real != bare + sums[following]:
            return self._packed(packer, ruler, asked, everything)
        prompt = bare + int(sums[count]) if count else max(ruler.lengths((), packer.items))
        return VoterFit(count, asked, prompt, int(sums[count]), everything)

    def _bare_prompt(self, packer: Packer, ruler: Ruler) -> tuple[int, Item]:
        """What the longest prompt has beside its examples, and whose prompt it is."""
        # The queries that are not too long grow with the room, so their number says which.
        key = len(packer.items)
        if key not in self._bare:
            [first] = packer.examples(1)
            lengths = ruler.lengths([first], packer.items)
            bare = max(lengths) - int(self._of_row[first.row])
            self._bare[key] = bare, packer.items[lengths.index(max(lengths))]
        return self._bare[key]

    def _sums(self, packer: Packer, asked: int, room: int) -> Counts:
        """Tokens of the first k examples, up to those that are asked for, or beyond the room."""
        wanted = 64
        while True:
            there = packer.available(min(wanted, asked))
            rows = [one.row for one in packer.known[: min(there, asked)]]
            sums = np.concatenate([[0], np.cumsum(self._of_row[rows])])
            if sums[-1] > room or len(rows) < wanted:
                return sums
            wanted *= 2

    def _all(self, ruler: Ruler, examples: Sequence[Item], query: Item) -> int:
        """Tokens of the query's prompt with these examples, which are all that are asked for."""
        key = len(examples), query
        if self._writer.kind == "text" or key not in self._whole:
            self._whole[key] = self._measured(ruler, examples, query)
        return self._whole[key]

    def _measured(self, ruler: Ruler, examples: Sequence[Item], query: Item) -> int:
        [some] = ruler.lengths(examples[:1], [query])
        total = some + sum(int(self._of_row[one.row]) for one in examples[1:])
        if total > _MOST_WHOLE:
            return total
        [whole] = ruler.lengths(examples, [query])
        return whole

    def _packed(self, packer: Packer, ruler: Ruler, asked: int, everything: int) -> VoterFit:
        """As a run packs it, with prompts that are tokenized whole."""
        count = asked
        if packer.available(asked) < asked or not packer.holds(asked):
            try:
                count = min(packer.most(), asked)
            except UsageError:  # not one
                count = 0
        shown = packer.examples(count)
        longest = max(ruler.lengths(shown, packer.items))
        return VoterFit(count, asked, longest, packer.tokens_of(shown), everything)
