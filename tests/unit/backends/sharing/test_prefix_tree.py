"""The walk through the prefix tree, against trees built the plain way."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise, takewhile
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from backends.sharing.prefix_tree import (
    Leaf,
    common_prefix_length,
    minimum_tokens,
    unique_tokens,
    walk,
)

TOKENS = st.lists(st.integers(0, 2), max_size=8)
PROMPTS = st.lists(TOKENS, max_size=12)


def naive_common(a: Sequence[int], b: Sequence[int]) -> int:
    equal = takewhile(lambda pair: pair[0] == pair[1], zip(a, b, strict=False))
    return sum(1 for _ in equal)


def trie_nodes(prompts: Sequence[Sequence[int]]) -> set[tuple[int, ...]]:
    """Every beginning of every prompt, which is every node of their trie but its root."""
    return {tuple(prompt[:end]) for prompt in prompts for end in range(1, len(prompt) + 1)}


@given(TOKENS, TOKENS)
def test_common_prefix_is_what_a_loop_finds(a: list[int], b: list[int]) -> None:
    assert common_prefix_length(a, b) == common_prefix_length(b, a) == naive_common(a, b)


@given(TOKENS, TOKENS)
def test_a_beginning_is_shared_whole(a: list[int], b: list[int]) -> None:
    assert common_prefix_length(a, a + b) == len(a)


@given(PROMPTS)
def test_walk_visits_every_prompt_once(prompts: list[list[int]]) -> None:
    leaves = walk(dict(enumerate(prompts)))
    assert sorted(leaf.prompt for leaf in leaves) == list(range(len(prompts)))


@given(PROMPTS)
def test_what_a_leaf_shares_with_the_one_before_is_all_it_shares_with_any_before(
    prompts: list[list[int]],
) -> None:
    leaves = walk(dict(enumerate(prompts)))
    seen: list[list[int]] = []
    for leaf in leaves:
        prompt = prompts[leaf.prompt]
        assert leaf.shared == max((naive_common(other, prompt) for other in seen), default=0)
        seen.append(prompt)


@given(PROMPTS)
def test_each_leaf_adds_the_nodes_behind_what_it_shares(prompts: list[list[int]]) -> None:
    leaves = walk(dict(enumerate(prompts)))
    for before, leaf in pairwise(leaves):
        assert naive_common(prompts[before.prompt], prompts[leaf.prompt]) == leaf.shared
    assert unique_tokens(prompts) == len(trie_nodes(prompts))


@given(PROMPTS, st.randoms(use_true_random=False))
def test_unique_tokens_do_not_depend_on_order_or_repetition(
    prompts: list[list[int]], random: Random
) -> None:
    shuffled = prompts * 2
    random.shuffle(shuffled)
    assert unique_tokens(shuffled) == unique_tokens(prompts)


def test_walk_of_nothing_and_of_gaps_in_the_numbering() -> None:
    assert walk({}) == []
    assert walk({7: [1, 2], 3: [1]}) == [Leaf(3, 0), Leaf(7, 1)]


def computed_with_blocks(prompts: Sequence[Sequence[int]], block: int) -> int:
    """What a cache of whole blocks leaves to be evaluated, in this order."""
    held: set[tuple[int, ...]] = set()
    computed = 0
    for prompt in prompts:
        blocks = [tuple(prompt[:end]) for end in range(block, len(prompt) + 1, block)]
        usable = [one for one in blocks if len(one) < len(prompt)]
        computed += len(prompt) - block * sum(1 for _ in takewhile(held.__contains__, usable))
        held.update(blocks)
    return computed


@given(PROMPTS, st.integers(2, 4), st.randoms(use_true_random=False))
def test_the_block_floor_is_what_a_cache_of_whole_blocks_leaves_at_best(
    prompts: list[list[int]], block: int, random: Random
) -> None:
    unique, least = minimum_tokens(prompts, block)
    assert unique == unique_tokens(prompts) <= least
    assert least == computed_with_blocks(sorted(prompts), block)
    random.shuffle(prompts)
    assert least <= computed_with_blocks(prompts, block)


@given(PROMPTS)
def test_with_blocks_of_one_token_the_floor_is_the_prefix_tree(prompts: list[list[int]]) -> None:
    assert minimum_tokens(prompts, 1) == (len(trie_nodes(prompts)), len(trie_nodes(prompts)))
