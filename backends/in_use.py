"""What in the user's cache a process works with, so that it is not removed meanwhile.

Beside each thing lies a file with a lock that all who use it share. The kernel releases a lock when
its process ends, however that ends. The file itself stays: if it were removed, a process that waits
for it would hold the lock of a file that is gone. Its time is when the thing was used last.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

_held: dict[Path, int] = {}
"""The open files, by what they stand for. The kernel closes them at the end of the process."""


def mark_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.used")


def hold(path: Path) -> None:
    """Until this process ends, `path` is in use. Raises `OSError` where that cannot be written."""
    if path not in _held:
        path.parent.mkdir(parents=True, exist_ok=True)
        _held[path] = os.open(mark_of(path), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666)
        fcntl.flock(_held[path], fcntl.LOCK_SH)
    os.utime(_held[path])


@contextmanager
def free(*locks: Path) -> Iterator[bool]:
    """Whether no other process holds any of these lock files; within it, none can begin to.

    One that is not there is not made: its time would say that the thing was used.
    """
    with ExitStack() as opened:
        is_free = True
        for lock in filter(Path.exists, locks):
            file = opened.enter_context(lock.open("a"))  # not "w": that would set its time
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                is_free = False
        yield is_free
