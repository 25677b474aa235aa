"""Log-probabilities, picking tokens and labels, and how a reply grows and ends."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy.special import log_softmax as scipy_log_softmax
from scipy.special import softmax
from scipy.stats import chisquare

from backends.api import Decoding, Prompt, TokenIds
from backends.sharing.generation import (
    Draft,
    Picker,
    choose_label,
    log_softmax,
    prompt_entropy,
)

FINITE = arrays(
    np.float64, st.tuples(st.integers(1, 3), st.integers(1, 9)), elements=st.floats(-1e4, 1e4)
)


def free(**options: Any) -> Decoding:
    return Decoding("free", (), **options)


@given(FINITE)
def test_log_softmax_is_scipys(logits: NDArray[np.float64]) -> None:
    ours = log_softmax(logits.astype(np.float32))
    assert ours.dtype == np.float64
    np.testing.assert_allclose(
        ours, scipy_log_softmax(logits.astype(np.float32).astype(np.float64), axis=-1), atol=1e-9
    )


def test_log_softmax_takes_logits_that_rule_a_token_out() -> None:
    assert log_softmax(np.array([0.0, -np.inf], np.float32)).tolist() == [0.0, -np.inf]


@given(FINITE)
def test_greedy_picks_the_first_of_the_greatest(logits: NDArray[np.float64]) -> None:
    picker = Picker(free(), Prompt([1, 2]))
    assert picker.pick(logits[0]) == int(np.argmax(logits[0]))


@given(st.integers(0, 2**32), st.lists(st.integers(0, 9), max_size=4), st.integers(0, 3))
def test_draws_depend_on_seed_prompt_and_attempt_alone(
    seed: int, ids: list[int], attempt: int
) -> None:
    logits = np.zeros(50)

    def draws(picker: Picker) -> list[int]:
        return [picker.pick(logits) for _ in range(5)]

    how, prompt = free(temperature=1.0, seed=seed), Prompt(ids, attempt=attempt)
    first, other = (Picker(how, prompt) for _ in range(2))
    between = Picker(how, Prompt([*ids, 1], attempt=attempt))
    expected = draws(first)
    moved = draws(between)
    assert draws(other) == expected
    assert moved != expected
    assert draws(Picker(free(temperature=1.0, seed=seed + 1), prompt)) != expected
    assert draws(Picker(how, Prompt(ids, attempt=attempt + 1))) != expected


def test_tokens_that_join_to_the_same_digits_are_other_prompts() -> None:
    logits = np.zeros(10**6)
    how = free(temperature=1.0)
    one, other = (Picker(how, Prompt(ids)) for ids in ([1, 2], [12]))
    assert one.pick(logits) != other.pick(logits)


def test_the_first_attempt_draws_what_was_drawn_before_there_were_attempts() -> None:
    digest = hashlib.sha256(b"7:1,2").digest()
    assert prompt_entropy(7, [1, 2], 0) == int.from_bytes(digest)
    assert len({prompt_entropy(7, [1, 2], attempt) for attempt in range(5)}) == 5


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_frequencies_are_the_softmaxs(temperature: float) -> None:
    logits = np.array([1.0, 0.0, -1.0, 2.0])
    picker = Picker(free(temperature=temperature, seed=7), Prompt([1]))
    draws = 4000
    seen = np.bincount([picker.pick(logits) for _ in range(draws)], minlength=4)
    assert chisquare(seen, draws * softmax(logits / temperature)).pvalue > 0.001


LABELS = st.lists(
    st.lists(st.integers(0, 2), min_size=1, max_size=3).map(tuple),
    min_size=1,
    max_size=5,
    unique=True,
)


def best_by_steps(
    labels: Sequence[tuple[int, ...]], logprob: dict[tuple[int, ...], float]
) -> tuple[int, ...]:
    """The label at the end of the best token after the best token."""
    beginning: tuple[int, ...] = ()
    while beginning not in labels:
        size = len(beginning) + 1
        going_on = {
            label[:size]
            for label in labels
            if label[: size - 1] == beginning and len(label) >= size
        }
        beginning = max(going_on, key=logprob.__getitem__)
    return beginning


@given(LABELS, st.data())
def test_a_label_is_chosen_token_by_token(
    labels: list[tuple[int, ...]], data: st.DataObject
) -> None:
    assume(not any(a != b and b[: len(a)] == a for a in labels for b in labels))
    beginnings = sorted({label[:end] for label in labels for end in range(1, len(label) + 1)})
    values = data.draw(st.permutations(range(len(beginnings))))
    logprob = {beginning: -1.0 - value for beginning, value in zip(beginnings, values, strict=True)}
    table = [[logprob[label[:end]] for end in range(1, len(label) + 1)] for label in labels]
    chosen = labels[choose_label(labels, table, Picker(free(), Prompt([1])))]
    assert chosen == best_by_steps(labels, logprob)


def test_a_drawn_label_is_drawn_by_its_share() -> None:
    labels, logprobs = [(1, 5), (2,)], [[np.log(0.3), -9.0], [np.log(0.1)]]
    count = 2000
    chosen = [
        choose_label(labels, logprobs, Picker(free(temperature=1.0), Prompt([i])))
        for i in range(count)
    ]
    assert chisquare(np.bincount(chosen), [count * 0.75, count * 0.25]).pvalue > 0.001


def written(decoding: Decoding, pieces: Sequence[bytes], end: bool = False) -> Draft:
    """A draft after these pieces, and the end token if it is still growing."""

    def detokenize(token_ids: TokenIds) -> str:
        return b"".join(pieces[token] for token in token_ids).decode("utf-8", errors="replace")

    draft = Draft(decoding)
    for token in range(len(pieces)):
        if draft.finish is None:
            draft.add(token, False, detokenize)
    if end and draft.finish is None:
        draft.add(99, True, detokenize)
    return draft


def test_a_reply_ends_at_the_end_token() -> None:
    draft = written(free(), [b" yes"], end=True)
    assert (draft.finish, draft.text, draft.token_ids) == ("stop", " yes", [0, 99])


def test_a_reply_goes_on_behind_the_end_token_where_wanted() -> None:
    draft = Draft(free(max_tokens=3, ignore_end=True))
    for token, is_end in ((0, False), (1, True), (2, False)):
        assert draft.finish is None
        draft.add(token, is_end, lambda ids: "".join(map(str, ids)))
    assert (draft.finish, draft.text, draft.token_ids) == ("length", "012", [0, 1, 2])


def test_without_stop_strings_the_text_is_made_once() -> None:
    made = []

    def detokenize(token_ids: TokenIds) -> str:
        made.append(len(token_ids))
        return ""

    draft = Draft(free(max_tokens=5))
    for token in range(5):
        draft.add(token, False, detokenize)
    assert made == [5]


def test_a_reply_ends_at_its_length() -> None:
    draft = written(free(max_tokens=2), [b"a", b"b", b"c"])
    assert (draft.finish, draft.text, draft.token_ids) == ("length", "ab", [0, 1])


def test_a_stop_string_may_lie_over_several_tokens_and_within_one() -> None:
    assert written(free(stop=("END",)), [b"a E", b"N", b"D b"]).text == "a "
    draft = written(free(stop=("\n", "!")), [b"a!b\nc", b"d"])
    assert (draft.finish, draft.text, draft.token_ids) == ("stop", "a", [0])


def test_a_stop_string_in_the_last_token_that_is_allowed_counts() -> None:
    assert written(free(max_tokens=1, stop=("\n",)), [b"a\n"]).finish == "stop"


def test_characters_may_be_split_over_tokens() -> None:
    first, second = "é".encode()[:1], "é".encode()[1:]
    assert written(free(max_tokens=1), [first]).text == "\N{REPLACEMENT CHARACTER}"
    assert written(free(max_tokens=2), [first, second]).text == "é"
    assert written(free(stop=("é",)), [b"a", first, second, b"b"]).text == "a"


@given(st.text(max_size=10), st.data())
def test_text_does_not_depend_on_how_it_is_cut(text: str, data: st.DataObject) -> None:
    data_bytes = text.encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(data_bytes)), max_size=4)))
    edges = [0, *cuts, len(data_bytes)]
    pieces = [data_bytes[a:b] for a, b in pairwise(edges)]
    assert written(free(max_tokens=len(pieces)), pieces).text == text
