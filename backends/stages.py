"""What a backend is doing while it opens a session: it says so, and a person who waits is shown it.

    from backends.stages import say

    say("converting the weights")

A few words, in the form that follows "loading NAME:". To say nothing is fine; the seconds are shown
in any case. Standard library only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

MOST_CHARACTERS = 60  # it stands on a line of 80 columns, with a name and seconds

_listeners: list[Callable[[str], None]] = []


def say(stage: str) -> None:
    """Heard only while a session is being opened in a worker; white space counts as one space."""
    for listener in _listeners:
        listener(" ".join(stage.split())[:MOST_CHARACTERS])


@contextmanager
def heard_by(listener: Callable[[str], None]) -> Iterator[None]:
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)
