"""All prompts of a voter go to one server, and to another one when that dies."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from backends.server.replicas import Shares, families


def voter(number: int, queries: int) -> list[list[int]]:
    """Prompts with 5 tokens that all have, 20 of the voter and 3 of the query."""
    head = [1] * 5 + [100 + number] * 20
    return [[*head, 200 + query, 2, 3] for query in range(queries)]


def test_prompts_of_a_voter_are_a_family() -> None:
    prompts = dict(enumerate(voter(3, 4) + voter(1, 2) + voter(2, 3)))
    assert families(prompts) == [[4, 5], [6, 7, 8], [0, 1, 2, 3]]


def test_prompts_that_share_little_are_apart() -> None:
    assert families({0: [1, 2, 3, 4], 1: [1, 5, 6, 7], 2: [1, 9, 8]}) == [[0], [1], [2]]
    assert families({}) == []


def test_a_server_that_is_done_takes_the_next_family() -> None:
    shares = Shares([[0, 1, 2], [3], [4, 5]])
    assert [shares.take(0), shares.take(1), shares.take(1), shares.take(1)] == [0, 3, 4, 5]
    assert shares.take(1) is None
    assert [shares.take(0), shares.take(0), shares.take(0)] == [1, 2, None]
    assert not shares.are_left


def test_what_a_dead_server_leaves_over_is_what_another_takes_next() -> None:
    shares = Shares([[0, 1, 2], [3], [4, 5]])
    assert [shares.take(0), shares.take(1)] == [0, 3]
    shares.give_back(0, 0)
    shares.leave(0)
    assert [shares.take(1) for _ in range(6)] == [0, 1, 2, 4, 5, None]
    shares.leave(0)
    assert not shares.are_left


@given(
    st.lists(st.lists(st.integers(0, 2), max_size=6), max_size=30),
    st.lists(st.tuples(st.sampled_from(["take", "leave"]), st.integers(0, 2)), max_size=60),
)
def test_every_prompt_is_handed_out_once_and_families_stay_whole(
    prompts: list[list[int]], steps: list[tuple[str, int]]
) -> None:
    numbered = dict(enumerate(prompts))
    every = families(numbered)
    shares, took, dead = Shares(every), dict[int, int](), set[int]()
    for what, server in [*steps, *(("take", 3) for _ in prompts)]:
        if what == "leave":
            shares.leave(server)
            dead.add(server)
        elif server not in dead and (prompt := shares.take(server)) is not None:
            assert prompt not in took
            took[prompt] = server
    for family in every:
        alive = {took[prompt] for prompt in family if prompt in took} - dead
        assert len(alive) <= 1
    left = {one for family in shares._taken.values() for one in family}
    assert {*took} | left == {*numbered}
