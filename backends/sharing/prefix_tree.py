"""Prompts in the order of a walk through their prefix tree, and what each adds to it.

Sorting prompts by their token ids visits the leaves of their radix tree from left to right, and the
length of the beginning that each shares with the one before it is all there is to know of the
tree's shape: the tokens behind that length are the nodes this prompt adds, everything before it is
there already. An engine that walks in this order and keeps the last prompt's KV cache until the
next has branched off computes every node once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import cast

from backends.api import TokenIds


@dataclass(frozen=True, slots=True)
class Leaf:
    """The prompt at index `prompt`; its first `shared` tokens are those of the leaf before it."""

    prompt: int
    shared: int


def common_prefix_length(a: TokenIds, b: TokenIds) -> int:
    """How many tokens two prompts have in common from their beginning.

    Bisection over slices: they are compared in C, where a loop would be in Python.
    """
    low, high = 0, min(len(a), len(b))
    # Everything before `low` is known to be equal, so each step compares only what is new.
    while low < high:
        middle = (low + high + 1) // 2
        if a[low:middle] == b[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def walk(prompts: Mapping[int, TokenIds]) -> list[Leaf]:
    """Every prompt once, equal ones included, in the order of the prefix tree's leaves."""
    # Prompts are lists, which can be sorted; the type `Sequence` does not promise that.
    order = sorted(prompts, key=lambda index: cast("list[int]", prompts[index]))
    if not order:
        return []
    rest = (
        Leaf(index, common_prefix_length(prompts[before], prompts[index]))
        for before, index in pairwise(order)
    )
    return [Leaf(order[0], 0), *rest]


def unique_tokens(prompts: Iterable[TokenIds]) -> int:
    """The fewest tokens that an engine has to evaluate, with perfect prefix caching: each beginning
    that prompts share is counted once."""
    return minimum_tokens(prompts, 1)[0]


def minimum_tokens(prompts: Iterable[TokenIds], block: int) -> tuple[int, int]:
    """`unique_tokens`, and the same for an engine that shares whole blocks of `block` tokens only:
    equal where that is 1."""
    held = dict(enumerate(prompts))
    leaves = [(leaf.shared, len(held[leaf.prompt])) for leaf in walk(held)]
    unique = sum(length - shared for shared, length in leaves)
    if block == 1:
        return unique, unique
    least = sum(length - in_whole_blocks(shared, length, block) for shared, length in leaves)
    return unique, least


def in_whole_blocks(shared: int, length: int, block: int) -> int:
    """How many of the `shared` tokens an engine can take from its cache for a prompt of `length`.

    The engine shares whole blocks only, and evaluates a prompt's last token in any case.
    """
    # The logits behind a prompt come of evaluating its last token; a cache has none of them.
    return min(shared, max(length - 1, 0)) // block * block
