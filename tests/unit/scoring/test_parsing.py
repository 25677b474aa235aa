"""Parsing: what each parser reads, what it refuses, and the laws between the two."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.scoring.parsing import (
    NOT_PARSED,
    Unparsed,
    UnparsedReason,
    parse_lenient,
    parse_strict,
    summarise_parse,
)

REAL_FAKE = ("REAL", "FAKE")
EMPTY = Unparsed(UnparsedReason.EMPTY)
NO_LABEL = Unparsed(UnparsedReason.NO_LABEL)
TWO_LABELS = Unparsed(UnparsedReason.TWO_LABELS)
CUT_OFF = Unparsed(UnparsedReason.CUT_OFF)

any_text = st.text(st.characters(), max_size=30)
letters = st.characters(categories=("Lu", "Ll", "Lo", "Nd", "Mn", "Pd", "Po", "Sm", "Zs"))
a_word = st.text(letters, min_size=1, max_size=8).filter(lambda word: word == word.strip())
some_words = st.lists(a_word, min_size=2, max_size=5, unique=True)


def both(text: str, words: tuple[str, ...], cut_off: bool = False) -> set[int | Unparsed]:
    return {parse_strict(text, words, cut_off), parse_lenient(text, words, cut_off)}


@pytest.mark.parametrize("text", ["FAKE", " FAKE", "FAKE\n", "\tFAKE\u00a0"])
def test_both_read_the_bare_word(text: str) -> None:
    assert both(text, REAL_FAKE) == {1}


@pytest.mark.parametrize("text", ["", " ", "\n\t \u2003"])
def test_nothing_is_empty(text: str) -> None:
    assert both(text, REAL_FAKE) == {EMPTY}


@pytest.mark.parametrize("text", ["", "REAL", "It is REAL or FAKE", "no idea"])
def test_a_reply_cut_off_gives_no_label(text: str) -> None:
    assert both(text, REAL_FAKE, cut_off=True) == {CUT_OFF}


@pytest.mark.parametrize("text", ["real", "REAL.", "It is REAL", "REAL REAL"])
def test_strict_wants_the_word_and_nothing_else(text: str) -> None:
    assert parse_strict(text, REAL_FAKE, cut_off=False) == NO_LABEL
    assert parse_lenient(text, REAL_FAKE, cut_off=False) == 0


@pytest.mark.parametrize(
    ("text", "words", "expected"),
    [
        ("**no**", ("yes", "no"), 1),
        ("_no_", ("yes", "no"), 1),
        ("'no'", ("yes", "no"), 1),
        ("answer:no", ("yes", "no"), 1),
        ("- no", ("yes", "no"), 1),
        ("none", ("yes", "no"), NO_LABEL),
        ("no-one", ("yes", "no"), NO_LABEL),
        ("no\u2011one", ("yes", "no"), NO_LABEL),
        ("no_label", ("yes", "no"), NO_LABEL),
        ("no's", ("yes", "no"), NO_LABEL),
        ("no1", ("yes", "no"), NO_LABEL),
        ("Yes and no", ("yes", "no"), TWO_LABELS),
        ("Not  Real", ("real", "not real"), 1),
        ("It is not\nreal.", ("real", "not real"), 1),
        ("not real, but real", ("real", "not real"), TWO_LABELS),
        ("un-real", ("real", "un-real"), 1),
        ("xa a a", ("a a", "b"), 0),
        ("a b c", ("a b", "b c"), TWO_LABELS),
        ("it is C++!", ("c", "c++"), 1),
        ("it is c.", ("c", "c++"), 0),
        ("it is .*", (".*", "[a]"), 0),
        ("it is [A]", (".*", "[a]"), 1),
        ("class 1.", ("0", "1"), 1),
        ("-1", ("0", "1"), NO_LABEL),
        ("-1", ("1", "-1"), 1),
        ("1.5", ("1", "5"), NO_LABEL),
        ("0,1", ("1", "2"), NO_LABEL),
        (".5", ("1", "5"), NO_LABEL),
        ("10", ("0", "1"), NO_LABEL),
        ("STRASSE!", ("straße", "weg"), 0),
        ("CAFE\u0301!", ("caf\u00e9", "tee"), 0),
        ("cafe\u0301!", ("cafe", "tee"), NO_LABEL),
        ("की", ("क", "ख"), NO_LABEL),
        ("真 ist es", ("真", "假"), 0),
        ("yes!", ("Yes", "yes"), TWO_LABELS),
    ],
)
def test_lenient_reads_whole_words(
    text: str, words: tuple[str, ...], expected: int | Unparsed
) -> None:
    assert parse_lenient(text, words, cut_off=False) == expected


@settings(deadline=None)
@given(some_words, st.data(), st.sampled_from(["", " ", "\n", "\t "]))
def test_a_rendered_label_is_read_back(words: list[str], data: st.DataObject, pad: str) -> None:
    label = data.draw(st.integers(0, len(words) - 1))
    assert parse_strict(pad + words[label] + pad, words, cut_off=False) == label
    assert parse_lenient(pad + words[label] + pad, words, cut_off=False) == label


@settings(deadline=None)
@given(
    st.sampled_from(["The answer is {}.", "**{}**", '"{}"', "({})\n", "So: {}!"]),
    st.sampled_from(["REAL", "FAKE", "not real", "zu groß", "état"]),
    st.data(),
)
def test_lenient_reads_a_label_in_a_sentence_in_any_case(
    sentence: str, word: str, data: st.DataObject
) -> None:
    words = ("REAL", "FAKE", "not real", "zu groß", "état")
    flips = data.draw(st.lists(st.booleans(), min_size=len(word), max_size=len(word)))
    shown = "".join(c.swapcase() if flip else c for c, flip in zip(word, flips, strict=True))
    assert parse_lenient(sentence.format(shown), words, cut_off=False) == words.index(word)


@settings(deadline=None)
@given(any_text, some_words, st.booleans())
def test_what_strict_reads_lenient_reads_the_same(
    text: str, words: list[str], cut_off: bool
) -> None:
    strict = parse_strict(text, words, cut_off)
    lenient = parse_lenient(text, words, cut_off)
    assert lenient == strict or strict == NO_LABEL
    assert isinstance(lenient, Unparsed) or lenient in range(len(words))


@settings(deadline=None)
@given(st.text("abAB .-_1", max_size=12), st.permutations(["a", "ab", "b a", "1"]))
def test_the_order_of_the_labels_is_no_matter(text: str, words: list[str]) -> None:
    def name(words: list[str]) -> str | Unparsed:
        label = parse_lenient(text, words, cut_off=False)
        return label if isinstance(label, Unparsed) else words[label]

    assert name(words) == name(sorted(words))


def test_summary_counts_replies_and_reasons() -> None:
    summary = summarise_parse([0, NO_LABEL, EMPTY, CUT_OFF], [0, 1, EMPTY, CUT_OFF])
    assert summary.replies == 4
    assert summary.strict is not None
    assert summary.lenient is not None
    assert (summary.strict.value, summary.lenient.value) == (0.25, 0.5)
    assert summary.lenient.low < 0.5 < summary.lenient.high
    assert summary.reasons == {"empty": 1, "no_label": 0, "two_labels": 0, "cut_off": 1}


def test_no_replies_have_no_share() -> None:
    summary = summarise_parse([], [])
    assert (summary.replies, summary.strict, summary.lenient) == (0, None, None)
    assert set(NOT_PARSED.model_dump().values()) == {None}
