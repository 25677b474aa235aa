"""Which prompts are refused, where a reply ends."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends.api import Decoding, DecodingMode, Prompt
from backends.rules import before_stop, first_line, refuse, reply_reserve, vocabulary_sha256

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
    refused, accepted = refuse([Prompt([0] * size) for size in sizes], decoding, context)
    assert sorted([*accepted, *(reply.prompt for reply in refused)]) == list(range(len(sizes)))
    assert all(0 < sizes[i] <= context - reply_reserve(decoding) for i in accepted)
    for reply in refused:
        assert reply.prompt_tokens == sizes[reply.prompt]
        assert reply.finish == ("overflow" if sizes[reply.prompt] else "empty")


@given(st.text("ab.\n"), st.lists(st.text("ab.\n", min_size=1, max_size=3), max_size=3))
def test_before_stop_is_the_longest_beginning_without_a_stop(text: str, stops: list[str]) -> None:
    before = before_stop(text, stops)
    assert text.startswith(before)
    assert not any(stop in before for stop in stops)
    assert before == text or any(text.startswith(stop, len(before)) for stop in stops)


def test_a_vocabulary_is_hashed_in_the_order_of_its_ids() -> None:
    expected = hashlib.sha256("a\0\0ä".encode()).hexdigest()
    assert vocabulary_sha256(["a", "", "ä"]) == expected
    assert vocabulary_sha256(["", "a", "ä"]) != expected


@pytest.mark.parametrize(
    "texts",
    [
        ["\u2581the", "[PAD1]", "  "],  # SentencePiece's mark for a space
        [" the", "", "\u2581\u2581", "", ""],  # a model has more rows than its tokenizer tokens
        [" the", "[PAD1]", "  ", "[PAD3]"],  # which llama.cpp's converter gives names
    ],
)
def test_what_engines_write_in_different_ways_is_one_vocabulary(texts: list[str]) -> None:
    assert vocabulary_sha256(texts) == vocabulary_sha256([" the", "", "  "])


def test_a_token_that_only_looks_like_padding_counts() -> None:
    assert vocabulary_sha256(["a", "[PAD7]"]) != vocabulary_sha256(["a", ""])


def test_an_error_without_text_is_named_by_its_kind() -> None:
    assert first_line(ValueError("\n one\ntwo")) == "one"
    assert first_line(NotImplementedError()) == "NotImplementedError"
