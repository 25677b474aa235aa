"""Whose tokens an entry is given: one vocabulary, one list of ids, whatever its own tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backends import mock
from backends.api import ModelRef
from harness.errors import UsageError
from harness.spec import RunSpec
from harness.summary import TokenDifference
from harness.workload.chat import ChatTemplate
from harness.workload.tokens import SHOWN_TOKENS, Tokenizer, leaders
from harness.workload.workload import Draft, Earlier, Workload, draw, write

MOCK = mock.open_session(ModelRef("mock", "mock", ""), {"max_model_len": 1})
PLAIN = Tokenizer("bytes", None, MOCK.tokenize, MOCK.token_texts)
WITH_BOS = replace(PLAIN, bos_id=mock.BOS)
SPEC = RunSpec(backend="mock", voters=2, queries=3, calibration_queries=2)
CHAT = ChatTemplate.of_model(MOCK.info.chat_template, MOCK.info.bos_text, MOCK.info.eos_text)


def encode_words(texts: Sequence[str]) -> list[list[int]]:
    """Another vocabulary: a token for each word."""
    return [[sum(map(ord, word)) for word in text.split()] for text in texts]


def encode_apart(texts: Sequence[str]) -> list[list[int]]:
    """The mock's vocabulary, but each second space is written as a special token."""
    every = MOCK.tokenize(texts)
    return [
        [mock.EOS if i % 2 and t == ord(" ") else t for i, t in enumerate(ids)] for ids in every
    ]


WORDS = Tokenizer("words", None, encode_words, lambda ids: [f"word {i}" for i in ids])
APART = replace(PLAIN, encode=encode_apart)
KINDS = {"plain": PLAIN, "bos": WITH_BOS, "apart": APART, "words": WORDS}


@pytest.fixture(scope="module")
def draft() -> Draft:
    return draw(SPEC)


def written(draft: Draft, **by: Tokenizer) -> Workload:
    return write(draft, SPEC, by, dict.fromkeys(by, CHAT), limit=600)


def given_to(workload: Workload, entry: str) -> Sequence[Sequence[int]]:
    return workload.packed.token_ids[workload.vocabularies[entry]]


def difference(workload: Workload, entry: str) -> TokenDifference:
    found = workload.tokens[entry].own_difference
    assert found is not None
    return found


@settings(max_examples=30)
@given(st.lists(st.sampled_from(sorted(KINDS)), min_size=1, max_size=4))
def test_entries_of_one_vocabulary_are_given_the_same_tokens(
    draft: Draft, kinds: list[str]
) -> None:
    by = {f"engine {place}": KINDS[kind] for place, kind in enumerate(kinds)}
    workload = written(draft, **by)
    texts = [prompt.text for prompt in workload.packed.prompts]
    for name, tokenizer in by.items():
        first = next(n for n, other in by.items() if other.vocabulary == tokenizer.vocabulary)
        ids, tokens = given_to(workload, name), workload.tokens[name]
        assert workload.vocabularies[name] == tokenizer.vocabulary
        assert list(map(list, ids)) == list(map(list, by[first](texts)))
        assert tokens.tokenized_by == first
        assert tokens.same_as_first == (tokenizer.vocabulary == by["engine 0"].vocabulary)
        equal = list(map(list, tokenizer(texts))) == list(map(list, ids))
        assert (tokens.own_difference is None) == equal
    vocabularies = {tokenizer.vocabulary for tokenizer in by.values()}
    assert set(workload.packed.token_ids) == set(workload.packed.labels) == vocabularies


def test_the_first_entry_with_a_vocabulary_leads() -> None:
    by = {"a": PLAIN, "b": WORDS, "c": WITH_BOS, "d": WORDS}
    assert leaders(by) == {"a": "a", "b": "b", "c": "a", "d": "b"}


@given(st.lists(st.sampled_from(["<bos>", "<eos>", "x"])).map("".join))
def test_the_first_token_is_never_doubled(text: str) -> None:
    [plain] = PLAIN([text])
    [ids] = WITH_BOS([text])
    assert ids[0] == mock.BOS
    assert list(ids) in (list(plain), [mock.BOS, *plain])
    assert (list(ids) == list(plain)) == text.startswith("<bos>")


@pytest.mark.parametrize(("prompt", "begins"), [("chat", "<bos>[system]"), ("compact", "Classify")])
def test_a_chat_template_that_begins_with_it_is_left_as_it_is(
    draft: Draft, prompt: str, begins: str
) -> None:
    spec = SPEC.model_copy(update={"prompt": prompt})
    packed = write(draft, spec, {"one": WITH_BOS}, {"one": CHAT}, limit=600).packed
    assert packed.prompts[0].text.startswith(begins)
    assert [ids.count(mock.BOS) for ids in map(list, packed.token_ids["bytes"])] == [1] * 10


def test_an_entry_that_adds_no_first_token_is_given_it_and_the_difference_is_reported(
    draft: Draft,
) -> None:
    workload = written(draft, one=WITH_BOS, two=PLAIN)
    assert given_to(workload, "two")[0][0] == mock.BOS
    found = difference(workload, "two")
    assert (found.voter, found.role, found.position, found.token) == (0, "query", 0, 0)
    assert [token.text for token in found.given] == ["<bos>", "C", "l"]
    assert [(token.id, token.text) for token in found.own] == [(67, "C"), (108, "l"), (97, "a")]


def test_an_entry_that_adds_one_is_given_none_where_the_first_adds_none(draft: Draft) -> None:
    workload = written(draft, one=PLAIN, two=WITH_BOS)
    assert given_to(workload, "two")[0][0] != mock.BOS
    assert difference(workload, "two").own[0].text == "<bos>"


def test_the_first_difference_is_the_first_token_of_the_first_prompt_that_differs(
    draft: Draft,
) -> None:
    def encode(texts: Sequence[str]) -> list[list[int]]:
        """All but the first four prompts are cut short."""
        return [ids[:-2] if i > 3 else ids for i, ids in enumerate(MOCK.tokenize(texts))]

    workload = written(draft, one=PLAIN, two=replace(PLAIN, encode=encode))
    place = workload.packed.prompts[4]
    found = difference(workload, "two")
    assert (found.voter, found.role, found.position) == (place.voter, place.role, place.position)
    assert found.token == len(given_to(workload, "two")[4]) - 2
    assert [token.text for token in found.given] == ["y", ":"]
    assert found.own == []


def test_each_text_is_tokenized_once_for_a_check_and_in_one_go(draft: Draft) -> None:
    calls: list[Sequence[str]] = []

    def encode(texts: Sequence[str]) -> list[list[int]]:
        calls.append(texts)
        return MOCK.tokenize(texts)

    workload = written(draft, one=PLAIN, two=replace(PLAIN, encode=encode))
    assert calls == [[prompt.text for prompt in workload.packed.prompts]]


def test_few_tokens_are_shown(draft: Draft) -> None:
    found = difference(written(draft, one=PLAIN, two=APART), "two")
    assert len(found.given) == len(found.own) == SHOWN_TOKENS


def test_another_vocabulary_is_given_its_own_tokens_of_the_same_texts(draft: Draft) -> None:
    """Words are fewer than bytes: the bytes' fit holds for both."""
    alone, both = written(draft, one=PLAIN), written(draft, one=PLAIN, two=WORDS)
    assert both.packed.prompts == alone.packed.prompts
    assert both.tokens["two"].tokenized_by == "two"
    assert not both.tokens["two"].same_as_first
    assert both.tokens["two"].own_difference is None


def test_examples_that_are_given_are_shown_whether_they_fit_or_not(draft: Draft) -> None:
    shown = [len(examples) for examples in written(draft, one=PLAIN).packed.shown]
    earlier = Earlier(shown, (), PLAIN.vocabulary)
    fixed = write(draft, SPEC, {"one": PLAIN}, {"one": CHAT}, 40, earlier)
    assert fixed.packed.prompts == written(draft, one=PLAIN).packed.prompts
    with pytest.raises(UsageError, match="not one example fits"):
        write(draft, SPEC, {"one": PLAIN}, {"one": CHAT}, 40)
