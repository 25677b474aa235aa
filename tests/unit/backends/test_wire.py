"""What is sent is what is received."""

from __future__ import annotations

import math
from multiprocessing.connection import Pipe

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends import wire
from backends.api import Batch, Event, Progress, Reply, Started

LISTS = st.lists(st.lists(st.integers(0, 300_000), max_size=6), max_size=8)
COUNTS = st.integers(0, 10**9)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
REPLIES = st.builds(
    Reply,
    prompt=COUNTS,
    finish=st.sampled_from(["stop", "length", "label", "scored", "overflow", "empty"]),
    prompt_tokens=COUNTS,
    cached_tokens=COUNTS,
    text=st.text(),
    token_ids=st.lists(COUNTS, max_size=5).map(tuple),
    label_logprobs=st.none() | st.lists(FLOATS, max_size=3).map(tuple),
    time_to_first_token_ms=st.none() | FLOATS,
    time_per_output_token_ms=st.none() | FLOATS,
)
EVENTS: st.SearchStrategy[Event] = st.one_of(
    st.builds(Started, st.lists(COUNTS).map(tuple)),
    st.builds(Progress, COUNTS),
    st.builds(
        Batch, st.lists(REPLIES, max_size=3).map(tuple), FLOATS, COUNTS, FLOATS, COUNTS, FLOATS
    ),
)


@given(LISTS)
def test_front_coding_is_undone(items: list[list[int]]) -> None:
    assert wire.front_decode(wire.front_code(items)) == items


def test_front_coding_sends_a_shared_beginning_once() -> None:
    prefix = list(range(1000))
    coded = wire.front_code([[*prefix, 1], [*prefix, 2, 3], prefix])
    assert coded == [[0, *prefix, 1], [1000, 2, 3], [1000]]


@given(EVENTS)
def test_events_arrive_over_a_pipe_as_they_were(event: Event) -> None:
    ours, theirs = Pipe()
    with ours, theirs:
        wire.send(ours, wire.encode_event(event))
        assert wire.decode_event(wire.receive(theirs)) == event


@given(st.text(st.characters(), max_size=20))
def test_any_text_arrives_lone_surrogates_and_all(text: str) -> None:
    ours, theirs = Pipe()
    with ours, theirs:
        wire.send(ours, {"texts": [text]})
        assert wire.receive(theirs) == {"texts": [text]}


def test_an_impossible_label_arrives_as_minus_infinity() -> None:
    batch = Batch((Reply(0, "scored", 1, label_logprobs=(-math.inf,)),), 0.0, 0, 0.0, 0, 0.0)
    ours, theirs = Pipe()
    with ours, theirs:
        wire.send(ours, wire.encode_event(batch))
        assert wire.decode_event(wire.receive(theirs)) == batch


def test_the_other_side_gone_is_the_end_of_file() -> None:
    ours, theirs = Pipe()
    theirs.close()
    with ours, pytest.raises(EOFError):
        wire.receive(ours)


def test_a_record_is_an_object() -> None:
    ours, theirs = Pipe()
    with ours, theirs:
        ours.send_bytes(b"[1]")
        with pytest.raises(ValueError, match="JSON object"):
            wire.receive(theirs)
