"""A backend that stops where its model's name says (test_kills.py); the file `STUCK_AT` then
holds the worker's id.

To match a regular expression holds Python's lock: no thread of the worker runs meanwhile, and no
handler of a signal. Standard library only, as whatever a worker imports.
"""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from backends import mock
from backends.api import Availability, Batch, Decoding, Event, ModelRef, Options, Prompt

FORMATS, OPTIONS, requirements = mock.FORMATS, mock.OPTIONS, mock.requirements


def check() -> Availability:
    return mock.check()


def stick(model: str, phase: str) -> None:
    """Once a run: a worker that comes after the first goes on."""
    if not model.startswith(phase):
        return
    at = Path(os.environ["STUCK_AT"])
    try:
        at.touch(exist_ok=False)
    except FileExistsError:
        return
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    if "children" in model and os.fork() == 0:
        os.fork()
        time.sleep(600)  # both hold the socket open
    at.write_text(str(os.getpid()))
    if "lock" in model:
        re.match(r"(a+)+b", "a" * 60)
    time.sleep(600)


def open_tokenizer(model: ModelRef, options: Options) -> mock.MockTokenizer:
    stick(model.name, "tokenizer")
    return mock.open_tokenizer(model, options)


def open_session(model: ModelRef, options: Options) -> mock.MockSession:
    stick(model.name, "loading")
    return Session(model, options)


class Session(mock.MockSession):
    def generate(self, prompts: Sequence[Prompt], decoding: Decoding) -> Iterator[Event]:
        model = self.info.model
        stick(model, "at once")
        batches = 0
        for event in super().generate(prompts, decoding):
            if batches:
                stick(model, "between batches" if isinstance(event, Batch) else "in a batch")
            yield event
            batches += isinstance(event, Batch)
        stick(model, "at the end")

    def close(self) -> None:
        stick(self.info.model, "closing")
