"""Packing: nothing overflows, one more would, and what is shown is balanced and reproducible."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from backends import mock
from backends.api import ModelRef
from harness.errors import TemplateError, UsageError
from harness.workload.encoders import Item
from harness.workload.packing import Packed, Tokenize, label_tokens, pack
from harness.workload.prompt import Template, Writer, load_template, make_writer
from harness.workload.voters import Voter

TOKENIZE = mock.open_session(ModelRef("mock", "mock", ""), {"max_model_len": 1}).tokenize


def tokenize_words(texts: Sequence[str]) -> list[list[int]]:
    """A tokenizer unlike the mock's: a token for each word or space."""
    return [[hash(word) for word in text.replace(" ", "\0 \0").split("\0")] for text in texts]


def tokenize_digits_dearly(texts: Sequence[str]) -> list[list[int]]:
    """The mock's, but that each digit takes two tokens."""
    return [
        [token for code in ids for token in ([code, code] if 48 <= code < 58 else [code])]
        for ids in TOKENIZE(texts)
    ]


WRITER = make_writer("compact", load_template("compact"), ("REAL", "FAKE"), None)


def items(rng: np.random.Generator, count: int) -> tuple[Item, ...]:
    """Balanced items of one to four numbers of one to six digits."""
    return tuple(
        Item(
            row,
            row % 2,
            tuple(
                str(rng.integers(10 ** int(rng.integers(1, 7))))
                for _ in range(int(rng.integers(1, 5)))
            ),
        )
        for row in range(count)
    )


@st.composite
def voters(draw: st.DrawFn) -> tuple[Voter, ...]:
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    return tuple(
        Voter(
            index=index,
            features=(0,),
            examples=items(rng, draw(st.integers(1, 40))),
            calibration=items(rng, draw(st.integers(0, 4))),
            queries=items(rng, draw(st.integers(1, 5))),
        )
        for index in range(draw(st.integers(1, 3)))
    )


def packed(
    shown: Sequence[Voter],
    limit: int,
    tokenizers: dict[str, Tokenize] | None = None,
    writer: Writer = WRITER,
    **options: Any,
) -> Packed:
    return pack(
        shown,
        writer,
        tokenizers or {"mock": TOKENIZE},
        limit=limit,
        **({"max_tokens": 8, "shots": None, "seed": 0} | options),
    )


def if_one_fits(*args: Any, **options: Any) -> Packed:
    try:
        return packed(*args, **options)
    except UsageError:
        assume(False)
        raise


def size(voter: Voter, count: int, tokenize: Tokenize = TOKENIZE) -> int:
    """The longest prompt of a voter with its first examples; the order makes no difference."""
    body = WRITER.body(voter.examples[:count])
    texts = [WRITER.prompt(body, item) for item in (*voter.queries, *voter.calibration)]
    return max(map(len, tokenize(texts)))


BYTES_ALONE: dict[str, Tokenize] = {"mock": TOKENIZE}
SEVERAL: dict[str, Tokenize] = {
    "mock": TOKENIZE,
    "words": tokenize_words,
    "dear": tokenize_digits_dearly,
}
LIMITS = st.integers(60, 900)


@pytest.mark.parametrize("tokenizers", [BYTES_ALONE, SEVERAL], ids=["one", "several"])
@given(shown=voters(), limit=LIMITS, max_tokens=st.integers(1, 20))
def test_every_prompt_fits_and_one_more_example_would_not(
    tokenizers: dict[str, Tokenize], shown: tuple[Voter, ...], limit: int, max_tokens: int
) -> None:
    result = if_one_fits(shown, limit, tokenizers, max_tokens=max_tokens)
    assert result.reserve >= max_tokens
    assert all(len(label) <= result.reserve for each in result.labels.values() for label in each)
    room = limit - result.reserve
    for name, tokenize in tokenizers.items():
        lengths = list(map(len, tokenize([prompt.text for prompt in result.prompts])))
        assert lengths == list(map(len, result.token_ids[name]))
        assert max(lengths) <= room
    for voter, examples in zip(shown, result.shown, strict=True):
        more = len(examples) + 1
        assert more > len(voter.examples) or room < max(
            size(voter, more, tokenize) for tokenize in tokenizers.values()
        )


@given(voters(), LIMITS, st.integers(0, 5))
def test_examples_are_balanced_and_shuffled_reproducibly(
    shown: tuple[Voter, ...], limit: int, seed: int
) -> None:
    result = if_one_fits(shown, limit, seed=seed)
    for voter, examples in zip(shown, result.shown, strict=True):
        counts = Counter(item.label for item in examples)
        assert abs(counts[0] - counts[1]) <= 1
        assert set(examples) == set(voter.examples[: len(examples)])
        assert len(set(examples)) == len(examples)
    assert packed(shown, limit, seed=seed) == result


def test_the_order_is_not_that_of_dealing_and_differs_by_seed_and_voter() -> None:
    rng = np.random.default_rng(0)
    one = Voter(0, (0,), items(rng, 40), (), items(rng, 1))
    first, second = packed([one, replace(one, index=1)], 10_000).shown
    [other] = packed([one], 10_000, seed=1).shown
    assert set(first) == set(second) == set(other) == set(one.examples)
    assert len({one.examples, first, second, other}) == 4


@given(voters(), st.integers(200, 900))
def test_growing_by_an_example_moves_none(shown: tuple[Voter, ...], limit: int) -> None:
    [voter, *_] = shown
    most = len(if_one_fits([voter], limit).shown[0])
    [small] = packed([voter], limit, shots=most - 1).shown
    [great] = packed([voter], limit, shots=most).shown
    assert [item for item in great if item in small] == list(small)


@given(voters(), LIMITS)
def test_prompts_stand_voter_by_voter_queries_first(shown: tuple[Voter, ...], limit: int) -> None:
    result = if_one_fits(shown, limit)
    expected = [
        (voter.index, role, position, item.row, item.label)
        for voter in shown
        for role, several in (("query", voter.queries), ("calibration", voter.calibration))
        for position, item in enumerate(several)
    ]
    assert expected == [(p.voter, p.role, p.position, p.row, p.label) for p in result.prompts]
    for prompt in result.prompts:
        body = WRITER.body(result.shown[[voter.index for voter in shown].index(prompt.voter)])
        assert prompt.text.startswith(body)


@given(voters(), LIMITS)
def test_that_not_all_fit_is_counted_exactly(dealt: tuple[Voter, ...], limit: int) -> None:
    found = if_one_fits(dealt, limit, SEVERAL)

    def length(examples: Sequence[Item], query: Item) -> int:
        text = WRITER.prompt(WRITER.body(examples), query)
        return max(len(tokens([text])[0]) for tokens in SEVERAL.values())

    whole = 0
    for voter in dealt:  # by the longest query of each, as `harness fit` counts it
        every = [*voter.queries, *voter.calibration]
        longest = max(every, key=partial(length, voter.examples[:1]))
        whole = max(whole, length(voter.examples, longest))
    shown = list(map(len, found.shown))
    is_whole = shown == [len(voter.examples) for voter in dealt]
    assert found.all_tokens == (None if is_whole else whole + found.reserve)


@given(voters(), LIMITS)
def test_behind_shuffled_labels_the_same_examples_and_queries_stand(
    dealt: tuple[Voter, ...], limit: int
) -> None:
    plain = if_one_fits(dealt, limit)
    both = packed(dealt, limit, with_shuffled=True)
    assert [one for one in both.prompts if one.role != "shuffled"] == list(plain.prompts)
    pairs = [[one for one in both.prompts if one.role == role] for role in ("query", "shuffled")]
    words = "|".join(WRITER.words)
    for query, shuffled in zip(*pairs, strict=True):
        assert replace(shuffled, role="query", text=query.text) == query
        labels = [re.findall(rf"y: ({words})", one.text) for one in (query, shuffled)]
        assert Counter(labels[0]) == Counter(labels[1])
        without = [re.sub(rf"y: ({words})", "", one.text) for one in (query, shuffled)]
        assert without[0] == without[1]


def test_shuffled_labels_are_not_those_of_the_examples() -> None:
    voter = Voter(
        0, (0,), items(np.random.default_rng(0), 40), (), items(np.random.default_rng(1), 1)
    )
    query, shuffled = packed([voter], 900, with_shuffled=True).prompts
    assert query.text != shuffled.text


def test_what_is_too_long_to_count_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    dealt = items(np.random.default_rng(0), 40)
    voter = Voter(0, (0,), dealt, (), dealt[:1])
    assert packed([voter], 100).all_tokens is not None
    monkeypatch.setattr("harness.workload.packing.MOST_COUNTED", 10)
    assert packed([voter], 100).all_tokens is None


@given(voters(), st.integers(0, 50))
def test_shots_fix_the_count_where_they_fit(shown: tuple[Voter, ...], shots: int) -> None:
    result = packed(shown, 10_000, shots=shots)
    assert [len(examples) for examples in result.shown] == [
        min(shots, len(voter.examples)) for voter in shown
    ]
    assert (result.tokens_per_example is None) == (shots == 0)


@given(voters(), LIMITS)
def test_shots_that_do_not_fit_are_refused_with_the_most_that_do(
    shown: tuple[Voter, ...], limit: int
) -> None:
    """A voter that shows all that it has is no limit."""
    pairs = zip(if_one_fits(shown, limit).shown, shown, strict=True)
    short = [len(own) for own, voter in pairs if len(own) < len(voter.examples)]
    assume(short)
    most = min(short)
    fewest = min(len(voter.examples) for voter in shown)
    assert min(map(len, packed(shown, limit, shots=most).shown)) == min(most, fewest)
    assert any(size(v, most + 1) + 8 > limit for v in shown if len(v.examples) > most)
    with pytest.raises(UsageError, match=f"^--shots 100000: at most {most} whole") as caught:
        packed(shown, limit, shots=100_000)
    assert "--max-model-len" in caught.value.remedy


def test_tokens_per_example_are_counted() -> None:
    same = tuple(Item(row, row % 2, ("1",)) for row in range(10))
    voter = Voter(0, (0,), same, (), same[:1])
    yes, no = len("x: 1 y: yes\n"), len("x: 1 y: no\n")
    assert packed([voter], 10_000).tokens_per_example == (yes + no) / 2


def test_not_even_one_example_is_an_error_that_counts() -> None:
    rng = np.random.default_rng(0)
    voter = Voter(0, (0,), items(rng, 4), (), items(rng, 2))
    needed = size(voter, 1) + 8
    assert len(packed([voter], needed).shown[0]) >= 1
    with pytest.raises(UsageError, match=f"takes {needed - 8} tokens, and {needed - 9} are left"):
        packed([voter], needed - 1)


def test_the_smallest_fit_over_tokenizers_holds_for_all() -> None:
    rng = np.random.default_rng(0)
    voter = Voter(0, (0,), items(rng, 40), (), items(rng, 2))
    alone, dear, both = (
        len(packed([voter], 600, {name: SEVERAL[name] for name in names}).shown[0])
        for names in (["mock"], ["dear"], ["mock", "dear"])
    )
    assert both == dear < alone


def labels(tokenize: Tokenize = TOKENIZE, **changes: Any) -> tuple[tuple[int, ...], ...]:
    plain = load_template("compact").model_dump()
    template = Template.model_validate({**plain, **changes})
    writer = make_writer("mine", template, ("REAL", "FAKE"), None)
    example = Item(0, 0, ("1",))
    return label_tokens(writer, tokenize, Voter(0, (0,), (example,), (), (example,)))


def test_a_label_is_what_stands_behind_the_prompt() -> None:
    assert labels() == (tuple(b" yes"), tuple(b" no"))


def test_a_label_that_joins_the_prompt_is_an_error() -> None:
    with pytest.raises(TemplateError, match="'esREAL' joins the end of the prompt") as caught:
        labels(tokenize_words, query="$numbers y", answer="es$label", labels={})
    assert "`query`" in caught.value.remedy


def test_an_answer_of_no_tokens_is_an_error() -> None:
    with pytest.raises(TemplateError, match="joins the end"):
        labels(lambda texts: [[1] for _ in texts])


@pytest.mark.parametrize("words", [("no", "not"), ("not", "no")])
def test_a_label_that_begins_another_is_an_error(words: tuple[str, str]) -> None:
    with pytest.raises(TemplateError, match="begins another") as caught:
        labels(
            labels=dict(zip(("REAL", "FAKE"), words, strict=True)),
            stop=(),
            example="y: $label x: $numbers$label",
        )
    assert "[labels]" in caught.value.remedy


@pytest.mark.parametrize("words", [("no", "not"), ("not", "no"), ("no", "no more")])
@pytest.mark.parametrize("example", ["x: $numbers y: $label\n", "x: $numbers y: ${label}\n$$"])
def test_the_end_of_a_label_tells_it_from_one_that_it_begins(
    words: tuple[str, str], example: str
) -> None:
    texts = [f" {word}\n" for word in words]
    named = dict(zip(("REAL", "FAKE"), words, strict=True))
    assert labels(labels=named, example=example) == tuple(tuple(ids) for ids in TOKENIZE(texts))


def test_labels_of_equal_tokens_are_an_error() -> None:
    with pytest.raises(TemplateError, match="begins another"):
        labels(lambda texts: [[1] * len(ids) for ids in tokenize_words(texts)])


# Texts


def of_texts(lengths: Sequence[int], queries: Sequence[int], calibration: int = 0) -> Voter:
    """Examples, queries and calibration queries of so many characters, hence tokens of the mock."""
    examples = tuple(Item(at, at % 2, ("x" * n,)) for at, n in enumerate(lengths))
    return Voter(
        index=0,
        features=(),
        examples=examples[calibration:],
        calibration=examples[:calibration],
        queries=tuple(Item(at, 0, ("q" * n,)) for at, n in enumerate(queries)),
    )


TEXT_WRITER = make_writer("text", load_template("text"), ("bad", "good"), None, "text")


def test_a_reply_has_room_for_the_longest_label_and_its_end_unless_its_length_is_given() -> None:
    words = ("bad", "a-long-label")
    writer = make_writer("text", load_template("text"), words, None, "text")
    short, long = of_texts([20, 20], [20]), len(" a-long-label")
    assert packed([short], 500, writer=TEXT_WRITER, max_tokens=None).reserve == 8
    assert packed([short], 500, writer=writer, max_tokens=None).reserve == long + 1
    assert packed([short], 500, writer=writer, max_tokens=3).reserve == long


def test_a_text_that_takes_more_than_half_of_the_room_is_no_example() -> None:
    result = packed([of_texts([20, 20, 250, 90_000, 20, 20], [20])], 500, writer=TEXT_WRITER)
    assert sorted(item.row for item in result.shown[0]) == [0, 1, 4, 5]
    assert result.too_long == (2, 3)


def test_the_next_text_of_its_class_stands_in_for_one_that_is_too_long() -> None:
    lengths = [600 if at % 2 and at < 8 else 20 for at in range(40)]
    result = packed([of_texts(lengths, [20])], 1000, writer=TEXT_WRITER, shots=6)
    assert Counter(item.label for item in result.shown[0]) == {0: 3, 1: 3}
    assert result.too_long == (1, 3, 5, 7)


def test_a_long_query_does_not_cost_the_others_their_examples() -> None:
    """Its own prompt does not fit, which is an error of that prompt alone."""
    lengths = [20] * 40
    alone = packed([of_texts(lengths, [20, 30])], 600, writer=TEXT_WRITER)
    result = packed([of_texts(lengths, [20, 400, 30])], 600, writer=TEXT_WRITER)
    assert result.shown == alone.shown
    sizes = [len(ids) for ids in result.token_ids["mock"]]
    assert max(sizes[0], sizes[2]) + result.reserve <= 600 < sizes[1]


def test_a_long_text_calibrates_no_voter() -> None:
    result = packed([of_texts([20, 800] + [20] * 8, [20], calibration=4)], 600, writer=TEXT_WRITER)
    assert [one.row for one in result.prompts if one.role == "calibration"] == [0, 2, 3]
    assert 1 in result.too_long


def test_what_was_too_long_once_is_passed_over_again_without_being_measured() -> None:
    voter = of_texts([20, 20, 250, 250, 20, 20], [20])
    first = packed([voter], 500, writer=TEXT_WRITER)
    again = packed([voter], 5000, writer=TEXT_WRITER, examples=[4], too_long=first.too_long)
    assert again.shown == first.shown


@pytest.mark.parametrize(("lengths", "queries"), [([600, 20] * 9, [20]), ([20] * 9, [600])])
def test_texts_of_which_none_fits_are_an_error(lengths: list[int], queries: list[int]) -> None:
    with pytest.raises(UsageError, match="not one example fits: every") as caught:
        packed([of_texts(lengths, queries)], 600, writer=TEXT_WRITER)
    assert "shorter texts" in caught.value.remedy
