from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console, Group

from harness.record import Estimate
from harness.report.text import (
    NOTHING,
    Verbatim,
    duration,
    duration_within,
    ends_apart,
    escaped,
    lines,
    number,
    percent,
    plain,
    sentences,
    share,
    shortened,
    span,
)


@given(st.text(st.characters(codec=None)))
def test_plain_text_is_printable_and_stays_as_it_is(text: str) -> None:
    once = plain(text)
    assert once.isprintable()
    assert plain(once) == once


@given(st.text().filter(str.isprintable))
def test_printable_text_is_not_changed(text: str) -> None:
    assert plain(text) == text


def test_terminal_sequences_lose_their_teeth() -> None:
    assert plain("a\x1b[31mb\x9b2Jc\x07\u202ed") == "a[31mb2Jcd"
    assert plain("one\r\n\ttwo") == "one   two"


@given(st.text(st.characters(codec=None)))
def test_an_escaped_text_leaves_nothing_out_and_drives_nothing(text: str) -> None:
    shown = escaped(text)
    assert "\n" not in shown
    assert "\x1b" not in shown
    assert len(shown) >= len(text)


def test_escapes_are_as_python_writes_them() -> None:
    assert escaped("a\x1b[31m\t\u202e\ud800\nb") == r"a\x1b[31m\t\u202e\ud800\nb"
    assert escaped("a\tb\n", stays="\n") == "a\\tb\n"
    assert escaped("\u4e00\u3000\xa0b") == "\u4e00\u3000\xa0b"


def test_what_is_shortened_says_by_how_much() -> None:
    assert shortened("abc", 3) == "abc"
    assert shortened("a" * 1503, 3) == "aaa... (+1,500)"


def test_a_verbatim_text_is_neither_markup_nor_broken(capsys: pytest.CaptureFixture[str]) -> None:
    text = "[bold]" + "word " * 60 + "\n  end"
    Console(width=20, highlight=False).print(Group(Verbatim(text)), crop=False)
    assert capsys.readouterr().out == f"{text}\n"


def test_lines_are_no_markup() -> None:
    text = lines("[bold]x[/bold]", "a\nb")
    assert text.plain == "[bold]x[/bold]\na b"
    assert text.spans == []


@pytest.mark.parametrize(
    ("value", "told"),
    [(None, NOTHING), (0.0, "0.00"), (0.123, "0.12"), (12.34, "12.3"), (12345.6, "12,346")],
)
def test_numbers(value: float | None, told: str) -> None:
    assert number(value) == told


def test_shares() -> None:
    assert percent(None) == NOTHING
    assert percent(1.0) == "100 %"
    assert percent(0.0625) == "6.25 %"
    assert share(None) == NOTHING
    assert share(Estimate(value=0.826, low=0.7, high=0.911)) == "0.83 (0.70 to 0.91)"


def test_spans() -> None:
    assert span([37, 37]) == "37"
    assert span([1234, 36]) == "36 to 1,234"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.004, "0 s"),
        (4.21, "4.2 s"),
        (89.4, "89 s"),
        (96, "1 min 36 s"),
        (133, "2 min 10 s"),
        (599, "10 min"),
        (2464, "41 min"),
        (4700, "1 h 18 min"),
        (72_300, "20 h"),
    ],
)
def test_a_duration_has_two_digits_or_a_little_more(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ((130, 115, 160), ("2 min 10 s", "2 min to 2 min 40 s")),
        ((3.1, 2.44, 3.5), ("3.1 s", "2.4 s to 3.5 s")),
        ((2464, 2452, 2478), ("41 min", "40 min 50 s to 41 min 20 s")),  # minutes would be one
        ((5, 5, 5), ("5 s", "5 s to 5 s")),
    ],
)
def test_a_duration_is_told_from_its_interval(
    values: tuple[float, float, float], text: tuple[str, str]
) -> None:
    assert duration_within(*values) == text


def test_sentences_break_between_words_and_never_in_one(capsys: pytest.CaptureFixture[str]) -> None:
    path = "/a-long/" * 6 + "x.csv"
    text = sentences(f"Run a: {path} (abc); two words and more", "", "note: \N{SNOWMAN}")
    Console(width=24, highlight=False).print(Group(text), crop=False)
    assert capsys.readouterr().out.splitlines() == [
        "Run a:",
        path,
        "(abc); two words and",
        "more",
        "",
        "note: \N{SNOWMAN}",
    ]


def test_paths_are_told_apart_by_their_ends() -> None:
    paths = {"/a/b/x.csv", "/a/c/x.csv", "/a/c/y.csv", "digits", "ollama:one", "x.csv", "/"}
    assert ends_apart(paths) == {
        "/a/b/x.csv": "b/x.csv",
        "/a/c/x.csv": "c/x.csv",
        "/a/c/y.csv": "y.csv",
        "digits": "digits",
        "ollama:one": "ollama:one",
        "x.csv": "x.csv",
        "/": "/",
    }
