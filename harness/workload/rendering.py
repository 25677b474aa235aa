"""The process that renders a model's chat template: `python -P rendering.py FD`.

A template comes out of a model file, and is a program of whoever made the file. The sandbox keeps
it from what is outside. It does not keep it from taking for ever, or all memory, and jinja computes
what is constant as early as it compiles. So all of it is done here, where the operating system sets
the limits, and none of it in the harness. `harness.workload.chat` is the other side.

Messages are those of `backends.wire`, over the socket FD:

    ready      {}                                             the child, once all is imported
    template   {source, variables, seconds, bytes}            answered by {} or {error}
    chats      {chats: lists of messages}, any number         answered by {texts} or {error}

`error` says why, in one line. A child that the limits end answers nothing.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import random
import resource
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

import jinja2
from jinja2 import nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

if not __package__:
    # Run by its path: the harness that this file belongs to, whatever else is installed.
    sys.path.insert(0, str(Path(__file__).parents[2]))
from harness.contract import wire

TODAY = datetime(2024, 7, 26)
"""What `strftime_now` says. The real day would make other prompts each day, so that no two runs
could be compared and none resumed. Templates of Llama 3 name this day where they are given none."""

_MOST_TIMES, _MOST_MORE = 4, 2**16  # how much longer a text may be than what it is made of
_LONGEST_REASON = 300
_PR_SET_PDEATHSIG = 1  # of Linux's prctl


def environment() -> ImmutableSandboxedEnvironment:
    """What transformers 5 renders chat templates in, but for its clock."""
    made = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
    )
    # jinja's own filter escapes HTML.
    made.filters["tojson"] = _to_json
    made.globals.update(
        raise_exception=_refuse,
        strftime_now=TODAY.strftime,
        dict=_Dict(),
        namespace=_namespace,
    )
    return made


class _Generation(Extension):
    """`{% generation %}` marks what a model is trained on; it is shown like anything else."""

    tags = {"generation"}  # noqa: RUF012 - as jinja declares it

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_shown"), [], [], body).set_lineno(line)

    def _shown(self, caller: Callable[[], str]) -> str:
        return caller()


class _Dict:
    """`dict` without the attributes of a class."""

    def __call__(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        return dict(*args, **kwargs)

    def fromkeys(self, *args: Any) -> dict[Any, Any]:
        return dict.fromkeys(*args)


class _Namespace(Namespace):
    """One that takes no name with an underscore in front: Python's own begin so."""

    def __setitem__(self, name: str, value: Any) -> None:
        if isinstance(name, str) and name.startswith("_"):
            raise SecurityError(f"a namespace takes no name that begins with _, such as {name!r}")
        super().__setitem__(name, value)


def _namespace(*args: Any, **kwargs: Any) -> _Namespace:
    made = _Namespace()
    for name, value in dict(*args, **kwargs).items():
        made[name] = value
    return made


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | str | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


def _refuse(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def render(
    template: jinja2.Template, messages: Sequence[Mapping[str, str]], variables: Mapping[str, str]
) -> str:
    """The text that the template makes of the messages, the same each time."""
    random.seed(0)  # for jinja's `random` and `lipsum`
    most = _MOST_TIMES * sum(len(one["content"]) for one in messages) + _MOST_MORE
    pieces: list[str] = []
    size = 0
    # Piece by piece, so that a text that is too long is never in memory whole.
    for piece in template.generate(
        messages=messages, tools=None, documents=None, add_generation_prompt=True, **variables
    ):
        size += len(piece)
        if size > most:
            raise jinja2.TemplateError(f"its text is longer than {most} characters")
        pieces.append(piece)
    return "".join(pieces)


def reason(error: Exception) -> str:
    """Why there is no text, in one line: the words may be those of the template."""
    if isinstance(error, MemoryError):
        return "it takes too much memory"
    if isinstance(error, RecursionError):
        return "it is nested too deeply, or it calls itself for ever"
    said = str(error)[: 10 * _LONGEST_REASON]
    if not isinstance(error, jinja2.TemplateError):
        said = f"{type(error).__name__}: {said}"
    line = " ".join(said.split())
    return "".join(character for character in line if character.isprintable())[:_LONGEST_REASON]


def _serve(connection: socket.socket) -> None:
    wire.send(connection, {})
    begin = wire.receive(connection)
    seconds = begin["seconds"]
    with contextlib.suppress(ValueError, OSError):  # macOS does not know this limit
        resource.setrlimit(resource.RLIMIT_AS, (begin["bytes"], begin["bytes"]))
    try:
        with _at_most(seconds):
            template = environment().from_string(begin["source"])
    except Exception as error:  # noqa: BLE001 - there is no telling what a foreign program raises
        wire.send(connection, {"error": reason(error)})
        return
    wire.send(connection, {})
    while True:
        chats = wire.receive(connection)["chats"]
        texts = []
        try:
            for messages in chats:
                with _at_most(seconds):
                    texts.append(render(template, messages, begin["variables"]))
        except Exception as error:  # noqa: BLE001 - as above
            wire.send(connection, {"error": reason(error)})
            return
        wire.send(connection, {"texts": texts})


@contextlib.contextmanager
def _at_most(seconds: int) -> Iterator[None]:
    """Ends this process where the block takes longer: the system does, so it needs no turn.

    The harness would kill it before that. This is for a harness that was killed itself.
    """
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)


def _end_with_the_harness() -> None:
    """A harness that is killed takes this process along: at once on Linux, elsewhere by the limit
    of time, or where it next waits for the harness."""
    # A signal that the parent ignores would be ignored here too.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def main() -> None:
    _end_with_the_harness()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a crash leaves no file behind
    with contextlib.suppress(EOFError, OSError):  # the harness has all it wants, or is gone
        _serve(socket.socket(fileno=int(sys.argv[1])))


if __name__ == "__main__":
    main()
