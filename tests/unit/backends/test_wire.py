"""What is sent is what is received, and what is no frame is refused."""

from __future__ import annotations

import json
import socket
import struct
import threading
from array import array
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends import wire
from backends.wire import Message, WireError

LISTS = st.lists(st.lists(st.integers(0, 300_000), max_size=6), max_size=8)
TEXTS = st.lists(st.text(st.characters(), max_size=20), max_size=8)


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def carried(message: Message) -> Message:
    """What arrives of a message; its sender does not wait for the receiver."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        sender = threading.Thread(target=wire.send, args=(ours, message))
        sender.start()
        received = wire.receive(theirs)
        sender.join()
    return received


def frame(head: object, body: bytes = b"") -> bytes:
    coded = head if isinstance(head, bytes) else json.dumps(head).encode()
    return struct.pack("<II", len(coded), len(body)) + coded + body


@given(LISTS)
def test_front_coding_is_undone(items: list[list[int]]) -> None:
    assert wire.front_decode(wire.front_code(items)) == items


@given(LISTS)
def test_lists_arrays_and_tuples_are_coded_alike(items: list[list[int]]) -> None:
    coded = wire.front_code(items)
    assert wire.front_code([tuple(item) for item in items]) == coded
    assert wire.front_code([array("i", item) for item in items]) == coded


def test_front_coding_sends_a_shared_beginning_once() -> None:
    prefix = list(range(1000))
    coded = wire.front_code([[*prefix, 1], [*prefix, 2, 3], prefix])
    assert coded["shared"].tolist() == [0, 1000, 1000]
    assert coded["following"].tolist() == [1001, 2, 0]
    assert coded["ids"].tolist() == [*prefix, 1, 2, 3]


@given(TEXTS)
def test_front_coding_of_texts_is_undone(texts: list[str]) -> None:
    sent = carried({"texts": wire.front_code_texts(texts)})["texts"]
    assert wire.front_decode_texts(sent) == texts


def test_front_coding_sends_a_shared_beginning_of_texts_once() -> None:
    assert wire.front_code_texts(["abc", "abde", "ab"]) == [[0, "abc"], [2, "de"], [2, ""]]


@pytest.mark.parametrize(
    ("shared", "following", "ids", "field"),
    [
        ([1], [1], [7], "shared"),
        ([0, 3], [2, 1], [7, 8, 9], "shared"),
        ([0], [2], [7], "following"),
        ([0, 0], [2, -1], [7], "following"),
        ([0], [1, 0], [7], "following"),
        ([-1], [1], [7], "shared"),
        ([0], [1], [-7], "ids"),
    ],
)
def test_front_coding_that_is_wrong_is_refused(
    shared: list[int], following: list[int], ids: list[int], field: str
) -> None:
    arrays = {"shared": shared, "following": following, "ids": ids}
    with pytest.raises(WireError, match=field):
        wire.front_decode({name: array("i", values) for name, values in arrays.items()})


def test_front_coding_that_is_not_there_is_refused() -> None:
    with pytest.raises(WireError, match="ids: there is no such array"):
        wire.front_decode({"shared": array("i"), "following": array("i"), "ids": [1]})


@pytest.mark.parametrize("token", [2**31, "a", None])
def test_an_id_that_is_no_int32_is_refused(token: object) -> None:
    with pytest.raises(WireError, match="token ids"):
        wire.front_code([[1, token]])  # type: ignore[list-item]


@given(LISTS, st.text())
def test_values_and_arrays_arrive_as_they_were(items: list[list[int]], text: str) -> None:
    arrays = {f"a{number}": array("i", item) for number, item in enumerate(items)}
    message = {"do": text, "more": [1, None, {"x": 0.1}], **arrays}
    assert carried(message) == message


@given(st.text(st.characters(), max_size=20))
def test_any_text_arrives_lone_surrogates_and_all(text: str) -> None:
    assert carried({"texts": [text]}) == {"texts": [text]}


def test_a_frame_larger_than_the_socket_holds_arrives_whole() -> None:
    message = {"ids": array("i", range(1_000_000))}
    assert carried(message) == message


def test_the_layout_is_that_of_the_docstring(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    wire.send(ours, {"do": "x", "ids": array("i", [1, -2])})
    head = b'{"do":"x","arrays":{"ids":2}}'
    assert theirs.recv(1000) == frame(head, struct.pack("<ii", 1, -2))


def test_messages_come_one_by_one(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    wire.send(ours, {"number": 1})
    wire.send(ours, {"number": 2, "ids": array("i")})
    assert wire.receive(theirs) == {"number": 1}
    assert wire.receive(theirs) == {"number": 2, "ids": array("i")}


@pytest.mark.parametrize("begun", [b"", b"\x01", frame({"arrays": {}})[:-1]])
def test_the_other_side_gone_is_the_end_of_file(
    pair: tuple[socket.socket, socket.socket], begun: bytes
) -> None:
    ours, theirs = pair
    theirs.sendall(begun)
    theirs.close()
    with pytest.raises(EOFError):
        wire.receive(ours)


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (frame(b"{"), "not JSON"),
        (frame(b"\xff\xfe"), "not JSON"),
        (frame('{"arrays": {}}'.encode("utf-16")), "not JSON"),
        (frame(b'{"arrays": {}, "text": "\xed\xa0\x80"}'), "not JSON"),  # half a surrogate pair
        (frame(b'{"arrays": {}, "a": 1, "a": 2}'), "'a' is there twice"),
        (frame(b'{"arrays": {}, "a": [{"b": 1, "b": 1}]}'), "'b' is there twice"),
        (frame(b'{"arrays": {}, "a": ' + b"9" * 5000 + b"}"), "not JSON"),
        (frame(b'{"arrays": {}, "a": ' + b"[" * 50_000 + b"]" * 50_000 + b"}"), "not JSON"),
        (frame(b"[" * 100_000), "not JSON"),
        (frame(b'{"arrays": {}, "seconds": NaN}'), "NaN"),
        (frame(b'{"arrays": {}, "seconds": -Infinity}'), "Infinity"),
        (frame([1]), "not a JSON object"),
        (frame({}), "no lengths"),
        (frame({"arrays": [1]}, bytes(4)), "no lengths"),
        (frame({"arrays": {"ids": -1}}), "no lengths"),
        (frame({"arrays": {"ids": 1.0}}, bytes(4)), "no lengths"),
        (frame({"arrays": {"ids": True}}, bytes(4)), "no lengths"),
        (frame({"arrays": {"ids": 1}}, bytes(5)), "lengths of the arrays"),
        (frame({"arrays": {"ids": 2}}, bytes(4)), "lengths of the arrays"),
        (frame({"arrays": {}}, bytes(4)), "lengths of the arrays"),
    ],
)
def test_what_is_no_frame_is_refused(
    pair: tuple[socket.socket, socket.socket], sent: bytes, said: str
) -> None:
    ours, theirs = pair
    theirs.sendall(sent)
    with pytest.raises(WireError, match=said):
        wire.receive(ours)


@pytest.mark.parametrize("sizes", [(2**28 + 1, 0), (0, 2**32 - 1), (2**27 + 1, 2**27)])
def test_a_frame_that_is_too_large_is_refused_before_it_is_read(
    pair: tuple[socket.socket, socket.socket], sizes: tuple[int, int]
) -> None:
    ours, theirs = pair
    theirs.sendall(struct.pack("<II", *sizes))  # and no more: to wait for it would be for ever
    with pytest.raises(WireError, match="is more than the"):
        wire.receive(ours)


@pytest.mark.parametrize("value", [float("nan"), float("-inf"), {1}, "x" * 1000])
def test_what_cannot_be_a_frame_is_not_sent_in_part(
    pair: tuple[socket.socket, socket.socket], value: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "MOST_BYTES", 1000)
    ours, theirs = pair
    with pytest.raises(WireError):
        wire.send(ours, {"ids": array("i", [1]), "value": value})
    wire.send(ours, {"next": 1})
    assert wire.receive(theirs) == {"next": 1}
