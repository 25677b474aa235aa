from __future__ import annotations

from collections.abc import Sequence

import pytest

from backends import mock
from backends.api import ModelRef
from harness.fit.shares import prompt_shares
from harness.workload.encoders import Item
from harness.workload.prompt import Writer, load_template, make_writer

BYTES = mock.open_session(ModelRef("mock", "mock", ""), {"max_model_len": 1}).tokenize
EXAMPLES = [Item(row, row % 2, ("12", "3", "45")) for row in range(4)]
QUERY = Item(9, 0, ("12", "3", "45"))


def counted(writer: Writer) -> dict[str, float]:
    """Tokens by what they are for, of the prompt with all examples."""
    [ids] = BYTES([writer.prompt(writer.body(EXAMPLES), QUERY)])
    per_example = len(writer.example(EXAMPLES[0])) * 2 + len(writer.example(EXAMPLES[1])) * 2
    shares = prompt_shares(writer, BYTES, EXAMPLES, QUERY, len(ids), per_example)
    found: dict[str, float] = shares.model_dump()
    assert sum(found.values()) == pytest.approx(1)
    return {name: round(share * len(ids), 6) for name, share in found.items()}


def test_every_byte_is_of_the_part_that_wrote_it() -> None:
    writer = make_writer("compact", load_template("compact"), ("REAL", "FAKE"), None)
    # "x: 12 3 45 y: yes\n" and "... no\n"; the query has no label
    assert counted(writer) == {
        "instruction": len("Classify each x as yes or no.\n"),
        "content": 5 * len("12345"),
        "separators": 4 * len("x:    y: \n") + len("x:    y:"),
        "labels": len("yesnoyesno"),
        "markup": 0,
    }


def test_what_a_chat_template_adds_is_markup() -> None:
    def render(system: str, users: Sequence[str]) -> list[str]:
        return [f"<s>[{system}]{user}</s>" for user in users]

    writer = make_writer("chat", load_template("chat"), ("REAL", "FAKE"), render)
    found = counted(writer)
    assert found["markup"] == len("<s>[]</s>")
    system = "You sort pictures, given as numbers, into real or fake. You answer with one word."
    head = "Each line has the numbers of a picture and its label.\n\n"
    assert found["instruction"] == len(system) + len(head)


def test_a_token_is_of_the_part_in_which_it_ends() -> None:
    """A space and the number behind it are one token, which is the number's."""

    def spaced(texts: Sequence[str]) -> list[list[int]]:
        return [list(map(hash, text.replace(" ", "\0 ").split("\0"))) for text in texts]

    writer = make_writer("compact", load_template("compact"), ("REAL", "FAKE"), None)
    shares = prompt_shares(writer, spaced, EXAMPLES, QUERY, 1000, 24)
    # of the five tokens of an example, "x:" and " y:" are none of the numbers
    assert shares.content / (shares.labels + shares.separators) > 1
