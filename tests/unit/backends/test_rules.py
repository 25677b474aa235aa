"""Which prompts are refused, where a reply ends."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from backends.api import Decoding, DecodingMode
from backends.rules import before_stop, refuse, reply_reserve

LABELS = ((1,), (2, 3, 4))


def test_reserve_is_what_a_reply_may_take() -> None:
    assert reply_reserve(Decoding("free", LABELS, max_tokens=7)) == 7
    assert reply_reserve(Decoding("choice", LABELS, max_tokens=7)) == 3
    assert reply_reserve(Decoding("score", (), max_tokens=7)) == 0


@given(
    st.lists(st.integers(0, 20), max_size=10),
    st.sampled_from(["free", "choice", "score"]),
    st.integers(0, 20),
)
def test_each_prompt_is_refused_or_accepted(
    sizes: list[int], mode: DecodingMode, context: int
) -> None:
    decoding = Decoding(mode, LABELS)
    refused, accepted = refuse([[0] * size for size in sizes], decoding, context)
    assert sorted([*accepted, *(reply.prompt for reply in refused)]) == list(range(len(sizes)))
    assert all(0 < sizes[i] <= context - reply_reserve(decoding) for i in accepted)
    for reply in refused:
        assert reply.prompt_tokens == sizes[reply.prompt]
        assert reply.finish == ("overflow" if sizes[reply.prompt] else "empty")


@given(st.text("ab.\n"), st.lists(st.text("ab.\n", min_size=1, max_size=3), max_size=3))
def test_before_stop_is_the_longest_beginning_without_a_stop(text: str, stops: list[str]) -> None:
    kept = before_stop(text, stops)
    assert text.startswith(kept)
    assert not any(stop in kept for stop in stops)
    assert kept == text or any(text.startswith(stop, len(kept)) for stop in stops)
