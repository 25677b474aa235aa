"""How messages travel between harness and worker: one frame each, over a stream socket.

A message is a mapping of names to values. Values that are `array("i")` travel as they are in
memory, all others as JSON. A frame is, in little endian:

    uint32   bytes of the head
    uint32   bytes of the body
    head     a JSON object in UTF-8: the values, and under "arrays" the length of each array by name
    body     int32 of all arrays, in the order in which the head names them

Prompts of one voter differ in their last tokens only, so lists of prompts are front-coded: how much
each shares with the one before it, how many tokens follow, and these tokens. Texts likewise.

JSON is strict: it has no number that is not finite. `backends.records` says what stands for one.
Standard library only, as any interpreter that has an engine runs it.
"""

from __future__ import annotations

import json
import select
import socket
import struct
import sys
from array import array
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any, NoReturn, TypeAlias, cast

from backends.api import TokenIds
from backends.sharing.prefix_tree import common_prefix_length

Message: TypeAlias = dict[str, Any]
Wait: TypeAlias = Callable[[int], None]
"""Returns when the socket is ready for `select.POLLIN` or `select.POLLOUT`; raises to give up."""

MOST_BYTES = 2**28
"""Of a frame: head and body together. It holds 600 prompts of 100,000 tokens that share nothing,
and those of a voter share nearly all; a size beyond it is no message, and takes no memory."""

_SIZES = struct.Struct("<II")
_ARRAYS = "arrays"
_ITEM_BYTES = 4  # of `array("i")`


class WireError(Exception):
    """What came is no frame, or no record of the kind it should be; or cannot be made one."""


def wait_for_ever(event: int) -> None:
    """For a blocking socket, which waits by itself."""
    del event


def send(connection: socket.socket, message: Message, wait: Wait = wait_for_ever) -> None:
    """Raises `WireError`, with nothing sent, and `OSError` where the other side has closed."""
    for part in _frame(message):
        left = memoryview(part).cast("B")
        while left:
            wait(select.POLLOUT)
            try:
                left = left[connection.send(left) :]
            except BlockingIOError:  # by now it takes nothing again
                continue


def receive(connection: socket.socket, wait: Wait = wait_for_ever) -> Message:
    """The next message. Raises `EOFError` where the other side has closed, and `WireError`."""
    head_bytes, body_bytes = _SIZES.unpack(_read(connection, _SIZES.size, wait))
    _check_size(head_bytes + body_bytes)
    head = _read(connection, head_bytes, wait)
    body = _read(connection, body_bytes, wait)
    try:
        # Python's JSON by itself takes NaN and Infinity, and the last of two values of one name.
        message = json.loads(
            head.decode(), parse_constant=_refuse_constant, object_pairs_hook=_without_doubles
        )
    except (ValueError, RecursionError) as error:
        raise WireError(f"the head of a frame is not JSON: {error}") from error
    if not isinstance(message, dict):
        raise WireError("the head of a frame is not a JSON object")
    lengths = message.pop(_ARRAYS, None)
    if not isinstance(lengths, dict) or any(
        type(length) is not int or length < 0 for length in lengths.values()
    ):
        raise WireError("the head of a frame gives no lengths of arrays")
    if _ITEM_BYTES * sum(lengths.values()) != body_bytes:
        raise WireError("the lengths of the arrays are not that of the frame's body")
    view, begin = memoryview(body), 0
    for name, length in lengths.items():
        end = begin + _ITEM_BYTES * length
        values = array("i")
        values.frombytes(view[begin:end])
        message[name] = _little_endian(values)
        begin = end
    return message


def ids_array(ids: Sequence[int]) -> array[int]:
    """Raises `WireError` for one that is not an integer of 32 bits."""
    try:
        return array("i", ids)
    except (TypeError, OverflowError) as error:
        raise WireError(f"token ids: {error}") from error


def front_code(items: Sequence[Sequence[int]]) -> Message:
    """Lists of token ids as three arrays of a message: `shared`, `following` and `ids`."""
    shared, following, ids = array("i"), array("i"), array("i")
    before: Sequence[int] = ()
    for item in items:
        common = common_prefix_length(before, item)
        shared.append(common)
        following.append(len(item) - common)
        ids.extend(ids_array(item[common:]))
        before = item
    return {"shared": shared, "following": following, "ids": ids}


def front_decode(message: Message) -> list[list[int]]:
    """The inverse of `front_code`. Raises `WireError`."""
    shared, following, ids = (ids_of(message, name) for name in ("shared", "following", "ids"))
    if len(shared) != len(following) or sum(following) != len(ids) or min(following, default=0) < 0:
        raise WireError("following: the counts are not those of the ids")
    items: list[list[int]] = []
    before: list[int] = []
    begin = 0
    for common, end in zip(shared, accumulate(following), strict=True):
        if common > len(before):
            raise WireError(f"shared: {common} of a list of {len(before)}")
        before = before[:common] + ids[begin:end].tolist()
        items.append(before)
        begin = end
    return items


def ids_of(message: Message, name: str) -> array[int]:
    """An array of a message, none of it below 0. Raises `WireError`."""
    values = message.get(name)
    if not isinstance(values, array):
        raise WireError(f"{name}: there is no such array")
    if min(values, default=0) < 0:
        raise WireError(f"{name}: a number below 0")
    return values


def front_code_texts(texts: Sequence[str]) -> list[list[int | str]]:
    """Each text as [characters shared with the one before it, the rest]."""
    coded: list[list[int | str]] = []
    before = ""
    for text in texts:
        # It compares slices only, so two texts do as well as two lists.
        common = common_prefix_length(cast(TokenIds, before), cast(TokenIds, text))
        coded.append([common, text[common:]])
        before = text
    return coded


def front_decode_texts(coded: Sequence[tuple[int, str]]) -> list[str]:
    """The inverse of `front_code_texts`."""
    texts: list[str] = []
    before = ""
    for common, rest in coded:
        before = before[:common] + rest
        texts.append(before)
    return texts


def _frame(message: Message) -> list[bytes | array[int]]:
    arrays = {name: value for name, value in message.items() if isinstance(value, array)}
    fields = {name: value for name, value in message.items() if name not in arrays}
    fields[_ARRAYS] = {name: len(value) for name, value in arrays.items()}
    try:
        head = json.dumps(fields, separators=(",", ":"), allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise WireError(f"a message cannot be written as JSON: {error}") from error
    body_bytes = _ITEM_BYTES * sum(map(len, arrays.values()))
    _check_size(len(head) + body_bytes)
    filled = (_little_endian(value) for value in arrays.values() if value)
    return [_SIZES.pack(len(head), body_bytes) + head, *filled]


def _check_size(size: int) -> None:
    if size > MOST_BYTES:
        raise WireError(f"a frame of {size} bytes is more than the {MOST_BYTES} that one may have")


def _read(connection: socket.socket, size: int, wait: Wait) -> bytearray:
    taken = bytearray(size)
    left = memoryview(taken)
    while left:
        wait(select.POLLIN)
        try:
            count = connection.recv_into(left)
        except BlockingIOError:  # by now there is nothing again
            continue
        if not count:
            raise EOFError("the other side has closed")
        left = left[count:]
    return taken


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


def _without_doubles(pairs: list[tuple[str, Any]]) -> Message:
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        double = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{double!r:.80} is there twice")
    return values


def _little_endian(values: array[int]) -> array[int]:
    if sys.byteorder == "little":
        return values
    swapped = values[:]
    swapped.byteswap()
    return swapped
