"""A limit on the memory that a worker and its children take together.

Where this process may make a cgroup of version 2 with a memory limit, the kernel holds the limit:
to the byte, and what can be given back (pages of files) is given back first. Elsewhere the harness
looks at resident memory many times a second (`harness.machine.memory`) and ends the group that has
more. Limits of the address space (`ulimit -v`) count far more than is used.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

LOOK_SECONDS = 0.02
"""Between two looks: an engine writes some MiB of memory in that time."""
_TRIES, _BETWEEN_SECONDS = 10, 0.05


class MemoryLimit:
    """Of the process group that `leader` leads. Its children are to be started after this is
    made."""

    def __init__(self, leader: int, most_bytes: int, root: Path = Path("/")) -> None:
        self.most_bytes = most_bytes
        self._was_ended = False
        self._leader = leader
        self._cgroup = _cgroup_of(leader, most_bytes, root)

    def look(self, resident_bytes: int) -> None:
        """Ends the group if that is more than the limit, and no kernel sees to it."""
        if self._cgroup is None and resident_bytes > self.most_bytes:
            self._was_ended = True
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._leader, signal.SIGKILL)

    @property
    def was_exceeded(self) -> bool:
        if self._cgroup is None:
            return self._was_ended
        with suppress(OSError):
            for line in (self._cgroup / "memory.events").read_text().splitlines():
                if line.startswith("oom_kill ") and line.split()[1] != "0":
                    return True
        return False

    def release(self) -> None:
        """The group has ended. A cgroup is busy until the last of its processes is gone."""
        if self._cgroup is None:
            return
        for _ in range(_TRIES):
            try:
                self._cgroup.rmdir()
            except FileNotFoundError:
                return
            except OSError:
                time.sleep(_BETWEEN_SECONDS)


def _cgroup_of(leader: int, most_bytes: int, root: Path) -> Path | None:
    """A new cgroup that holds the process, and later all that it starts; `None` where none may be
    made. Memory that it has taken before stays in its old one: an interpreter that has just been
    started has some MiB."""
    for parent in _parents(root):
        with suppress(OSError):
            if "memory" in (parent / "cgroup.subtree_control").read_text().split():
                return _made(parent / f"harness-{leader}", leader, most_bytes)
        if _has_limit(parent):  # which would not hold for what is put beside it
            return None
    return None


def _made(cgroup: Path, leader: int, most_bytes: int) -> Path:
    """Raises `OSError`, and leaves nothing then."""
    cgroup.mkdir()
    try:
        (cgroup / "memory.max").write_text(str(most_bytes))
        with suppress(OSError):  # a kernel without swap has no such file
            (cgroup / "memory.swap.max").write_text("0")
        (cgroup / "memory.oom.group").write_text("1")
        (cgroup / "cgroup.procs").write_text(str(leader))
    except OSError:
        cgroup.rmdir()
        raise
    return cgroup


def _has_limit(cgroup: Path) -> bool:
    with suppress(OSError):
        return (cgroup / "memory.max").read_text().strip() != "max"
    return False  # the root has no such file


def _parents(root: Path) -> Iterator[Path]:
    """The cgroup of version 2 that this process is in, and those around it, the nearest first. One
    that has processes has no memory limits for its children, so it is mostly one of those."""
    lines: list[str] = []
    with suppress(OSError):
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    for line in lines:
        controllers, _, path = line.partition(":")[2].partition(":")
        if not controllers:
            for folder in [path, *map(str, Path(path).parents)]:
                yield root / "sys/fs/cgroup" / folder.lstrip("/")
