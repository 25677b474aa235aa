"""Whose tokens an entry is given.

Entries of one vocabulary are given the very same token ids: those that the first of them makes of
the texts. What the others would have made of the same texts is compared with these. An entry with
a vocabulary of its own is given its own tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from harness.contract import common_prefix_length
from harness.summary import PromptTokens, Token, TokenDifference
from harness.workload.packing import Packed, Prompt, Tokenize

Ids: TypeAlias = Sequence[Sequence[int]]

SHOWN_TOKENS = 3  # of each side, from the difference on


@dataclass(frozen=True, slots=True)
class Tokenizer:
    """How an entry makes tokens of texts.

    `encode` adds no token; `bos_id` is the one that its model wants first, `None` where it wants
    none. `spell` gives tokens as the vocabulary with the hash `vocabulary` writes them.
    """

    vocabulary: str
    bos_id: int | None
    encode: Tokenize
    spell: Callable[[Sequence[int]], Sequence[str]]

    def __call__(self, texts: Sequence[str]) -> Ids:
        """With the token that the model wants first, once: a text may begin with it already."""
        every, bos = self.encode(texts), self.bos_id
        if bos is None:
            return every
        return [ids if list(ids[:1]) == [bos] else [bos, *ids] for ids in every]


def leaders(tokenizers: Mapping[str, Tokenizer]) -> dict[str, str]:
    """For each entry the first one with its vocabulary: the one whose tokens it is given."""
    first: dict[str, str] = {}
    return {name: first.setdefault(one.vocabulary, name) for name, one in tokenizers.items()}


def check_tokens(
    packed: Packed, tokenizers: Mapping[str, Tokenizer], first: str
) -> dict[str, PromptTokens]:
    """What each entry is given, beside what it would have made of the texts itself.

    `first` is the vocabulary of the entry that was given these prompts first.
    """
    by = leaders(tokenizers)
    return {
        name: PromptTokens(
            same_as_first=own.vocabulary == first,
            tokenized_by=by[name],
            # The first entry with a vocabulary is given its own tokens.
            own_difference=None
            if by[name] == name
            else _difference(packed.prompts, packed.token_ids[own.vocabulary], own),
        )
        for name, own in tokenizers.items()
    }


def _difference(
    prompts: Sequence[Prompt], given: Ids, tokenizer: Tokenizer
) -> TokenDifference | None:
    """The first place in the first prompt in which the two differ, `None` where they never do."""
    every = tokenizer([prompt.text for prompt in prompts])
    for prompt, one, other in zip(prompts, given, every, strict=True):
        if list(one) != list(other):
            place = common_prefix_length(one, other)
            return TokenDifference(
                voter=prompt.voter,
                role=prompt.role,
                position=prompt.position,
                token=place,
                given=_spelt(one[place:], tokenizer),
                own=_spelt(other[place:], tokenizer),
            )
    return None


def _spelt(token_ids: Sequence[int], tokenizer: Tokenizer) -> list[Token]:
    first = token_ids[:SHOWN_TOKENS]
    pairs = zip(first, tokenizer.spell(first), strict=True)
    return [Token(id=token, text=text) for token, text in pairs]
