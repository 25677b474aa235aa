"""A model's chat template, its own or a given one, rendered in a process of its own with limits.

`harness.workload.rendering` is that process, and says why there is one. One serves for all texts of
a run: a template renders thousands of texts while they are packed.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from harness.contract import wire
from harness.errors import TemplateError, UsageError

Render: TypeAlias = Callable[[str, Sequence[str]], list[str]]
"""The texts of chats: each of one system message (empty: there is none) and one of a user."""

START_SECONDS = 60.0
SECONDS = 5.0
"""In which a template has to be compiled, or to make a text. Honest ones take a millisecond."""

SECONDS_A_TEXT = 0.1
"""What each text adds to the time that is left of these: a template that took nearly all of them
each time would hold a run up for hours."""

MOST_BYTES = 512 * 2**20  # of memory, with Python itself
MOST_TEMPLATE_BYTES = 2**20  # of a file; those of models have some thousand

_PROGRAM = str(Path(__file__).with_name("rendering.py"))
_MOST_CHATS, _MOST_CHARACTERS = 64, 2**20  # that travel at once: one by one they would take long


@dataclass(frozen=True, slots=True)
class ChatTemplate:
    """A chat template as jinja text, untrusted.

    It comes from the file `file`, or, where that is empty, from the model `model`: for errors.
    """

    source: str
    bos_text: str
    eos_text: str
    model: str = field(default="", compare=False)
    file: str = field(default="", compare=False)

    @classmethod
    def of_model(
        cls, source: str | None, bos_text: str, eos_text: str, model: str = "", file: str = ""
    ) -> ChatTemplate | None:
        """For a model with these special tokens; `None` where it has no template. A token that the
        template does not name is left out: two models that differ in it are given the same text."""
        if source is None:
            return None
        bos = bos_text if "bos_token" in source else ""
        eos = eos_text if "eos_token" in source else ""
        return cls(source, bos, eos, model, file)


def read_chat_template(file: str) -> str:
    """The text of a chat template that a user names. Raises `UsageError`."""
    path = Path(file)
    try:
        if not path.is_file():
            raise UsageError(
                f"--chat-template {file}: there is no such file", remedy="Give a file of jinja."
            )
        with path.open("rb") as opened:
            content = opened.read(MOST_TEMPLATE_BYTES + 1)
        text = content.decode("utf-8-sig")
    except OSError as error:
        raise UsageError(
            f"--chat-template {file}: {error.strerror}", remedy="Check its permissions."
        ) from error
    except UnicodeDecodeError as error:
        raise UsageError(
            f"--chat-template {file} is not UTF-8", remedy="Give a text file of jinja."
        ) from error
    if len(content) > MOST_TEMPLATE_BYTES:
        raise UsageError(
            f"--chat-template {file} has more than {MOST_TEMPLATE_BYTES // 2**20} MiB",
            remedy="Give a text file of jinja.",
        )
    return text


@contextlib.contextmanager
def open_chat(template: ChatTemplate) -> Iterator[Render]:
    """Compiles a chat template, and ends its process afterwards.

    Raises `TemplateError` where it is none; what is given raises it where it cannot be rendered.
    """

    def failed(what: str, why: object) -> TemplateError:
        whose = template.file or f"of the model {template.model}"
        return TemplateError(
            f"the chat template {whose} {what}: {why}",
            remedy="Use a completion template, such as --prompt compact; for texts, --prompt text.",
        )

    def render(system: str, users: Sequence[str]) -> list[str]:
        before = [{"role": "system", "content": system}] if system else []
        texts: list[str] = []
        try:
            for some in _portions(users):
                chats = [[*before, {"role": "user", "content": user}] for user in some]
                texts += child.request({"chats": chats}, len(chats))["texts"]
        except _ChildError as error:
            raise failed("cannot be rendered", error) from error
        return texts

    # transformers names those that there are, and a template may ask whether one is defined
    special = {"bos_token": template.bos_text, "eos_token": template.eos_text}
    with contextlib.closing(_Child()) as child:
        try:
            child.start()
            child.request(
                {
                    "source": template.source,
                    "variables": {name: text for name, text in special.items() if text},
                    "seconds": 2 * int(SECONDS),  # its own limit, without us: ours ends first
                    "bytes": MOST_BYTES,
                },
                texts=1,
            )
        except _ChildError as error:
            raise failed("is broken", error) from error
        yield render


def _portions(users: Sequence[str]) -> Iterator[list[str]]:
    """All of them in order, as many at once as may travel; one alone may be longer."""
    portion: list[str] = []
    for user in users:
        size = len(user) + sum(map(len, portion))
        if portion and (len(portion) == _MOST_CHATS or size > _MOST_CHARACTERS):
            yield portion
            portion = []
        portion.append(user)
    if portion:
        yield portion


class _ChildError(Exception):
    """Why the child did not do it."""


class _Child:
    """The process, and the socket to it. It does nothing more after an error."""

    def __init__(self) -> None:
        self._seconds_left = SECONDS
        self._connection, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603 - our own program, no shell
                [sys.executable, "-P", _PROGRAM, str(theirs.fileno())],
                env={**os.environ, "TZ": "UTC"},  # a template's day is the same everywhere
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is for the harness, which then ends it
            )

    def start(self) -> None:
        """Waits until it has imported what it needs, which is not the template's time."""
        try:
            self._exchange(None, time.monotonic() + START_SECONDS)
        except _ChildError as error:
            raise TemplateError(
                "the process that renders chat templates could not be started",
                remedy=f"`{sys.executable} -P {_PROGRAM} 0` says why.",
            ) from error

    def request(self, message: wire.Message, texts: int) -> wire.Message:
        """The answer, which takes the time of so many texts. Raises `_ChildError`."""
        deadline = time.monotonic() + self._seconds_left + texts * SECONDS_A_TEXT
        answer = self._exchange(message, deadline)
        self._seconds_left = min(SECONDS, deadline - time.monotonic())
        if "error" in answer:
            raise _ChildError(answer["error"])
        return answer

    def _exchange(self, message: wire.Message | None, deadline: float) -> wire.Message:
        def wait(_: int) -> None:
            # what has come by then is still read
            self._connection.settimeout(max(deadline - time.monotonic(), 0.001))

        try:
            if message is not None:
                wire.send(self._connection, message, wait)
            return wire.receive(self._connection, wait)
        except TimeoutError as error:
            raise _ChildError("it takes too long") from error
        except (EOFError, OSError, wire.WireError) as error:
            raise _ChildError("it crashed the process that renders it") from error

    def close(self) -> None:
        self._connection.close()
        self._process.kill()
        self._process.wait()
