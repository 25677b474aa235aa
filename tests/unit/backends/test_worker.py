"""The worker's side of the wire: requests, and what is sent of an engine's events."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends import mock, wire, worker
from backends.api import Decoding, Event, ModelRef, Options, Progress, Prompt, Started
from backends.wire import Message

SIGNS = st.builds(Progress, st.integers(0, 9))
EVENTS = st.lists(st.one_of(SIGNS, st.builds(Started, st.tuples(st.integers(0, 9)))))


@given(EVENTS)
def test_thinning_loses_no_token_and_changes_nothing_else(events: list[Event]) -> None:
    left = list(worker._thinned(iter(events)))
    assert [e for e in left if isinstance(e, Started)] == [
        e for e in events if isinstance(e, Started)
    ]
    assert tokens_before_each_start(left) == tokens_before_each_start(events)


def test_of_many_signs_in_no_time_one_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "SECONDS_BETWEEN_SIGNS", 1e9)
    events: list[Event] = [Progress(1)] * 1000
    assert list(worker._thinned(iter([*events, Started((0,))]))) == [Progress(1000), Started((0,))]


def tokens_before_each_start(events: list[Event]) -> list[int]:
    """The tokens sent by the time of each other event; those behind the last may still be due."""
    sent, at_starts = 0, []
    for event in events:
        if isinstance(event, Progress):
            sent += event.prompt_tokens
        else:
            at_starts.append(sent)
    return at_starts


MODEL = {"name": "toy", "format": "none", "location": "", "cache": ""}
OPEN = {"backend": "backends.mock", "model": MODEL, "options": {"max_model_len": 100}}
DECODING = {
    "mode": "score",
    "labels": [[1], [2]],
    "max_tokens": 8,
    "stop": [],
    "temperature": 0.0,
    "seed": 0,
    "ignore_end": False,
}


def answers(server: worker.Server, do: str, **fields: Any) -> list[Message]:
    return list(server.answer({"do": do, **fields}))


def generate(server: worker.Server, texts: Sequence[str] | None) -> list[Message]:
    return answers(
        server,
        "generate",
        decoding=DECODING,
        texts=None if texts is None else wire.front_code_texts(texts),
        attempts=array("i", [0, 2]),
        **wire.front_code([[1, 2, 3], [1, 2]]),
    )


@pytest.mark.parametrize("do", ["open_tokenizer", "open"])
def test_a_tokenizer_and_a_session_tokenize_alike(do: str) -> None:
    server = worker.Server()
    [opened] = answers(server, do, **OPEN)
    assert opened["result"]["bos_text"] == "<bos>"
    [tokenized] = answers(server, "tokenize", texts=wire.front_code_texts(["ab", "ac", ""]))
    assert wire.front_decode(tokenized) == [[97, 98], [97, 99], []]
    [named] = answers(server, "token_texts", ids=array("i", [97, mock.EOS]))
    assert named["result"] == ["a", "<eos>"]
    assert answers(server, "close") == [{"result": None}]


def test_a_tokenizer_generates_nothing() -> None:
    server = worker.Server()
    answers(server, "open_tokenizer", **OPEN)
    [refused] = generate(server, None)
    assert (refused["error"], refused["expected"]) == ("no session is open", True)


@pytest.mark.parametrize("do", ["tokenize", "token_texts", "forget", "nonsense"])
def test_what_cannot_be_done_is_an_error(do: str) -> None:
    [refused] = answers(worker.Server(), do, texts=[], ids=array("i"))
    assert "error" in refused


@pytest.mark.parametrize("texts", [["abc", "ab"], None])
def test_a_session_is_given_ids_attempts_and_the_texts_that_came(
    monkeypatch: pytest.MonkeyPatch, texts: list[str] | None
) -> None:
    given: list[Prompt] = []

    class Listening(mock.MockSession):
        def generate(self, prompts: Sequence[Prompt], decoding: Decoding) -> Iterator[Event]:
            assert decoding == Decoding("score", ((1,), (2,)))
            given.extend(prompts)
            yield from super().generate(prompts, decoding)

    def open_session(model: ModelRef, options: Options) -> mock.MockSession:
        return Listening(model, options)

    monkeypatch.setattr(mock, "open_session", open_session)
    server = worker.Server()
    answers(server, "open", **OPEN)
    messages = generate(server, texts)
    first, second = texts or ["", ""]
    assert given == [Prompt([1, 2, 3], first, 0), Prompt([1, 2], second, 2)]
    assert messages[-1] == {"result": None}
    assert [reply["prompt"] for reply in messages[-2]["replies"]]
