"""The logs of workers: what an engine prints, beside the results, one file an entry."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import BinaryIO

from harness.errors import EngineError

MOST_BYTES = 2**20
"""Of a log that is added to: some ten sessions of the wordiest engines. A larger one becomes the
earlier log, in the place of that. So an entry has two files, each of this size and one session's
words at most; what a session says is never cut."""


def open_log(path: Path) -> BinaryIO:
    """The log, to add to. Raises `EngineError` where it cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and path.stat().st_size > MOST_BYTES:
            path.replace(_earlier(path))
        return path.open("ab")
    except OSError as error:
        is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise EngineError(
            f"the engine's log {path} cannot be written: {error.strerror}",
            remedy="Make room on the disk, then go on with `harness run --resume RUN`."
            if is_full
            else "Give a results folder that you may write to, or start in a folder that you may "
            "write to.",
        ) from error


def log_files(folder: Path, entry: str) -> tuple[Path, Path]:
    """The log of an entry, and the earlier one."""
    log = folder / f"{entry}.log"
    return log, _earlier(log)


def _earlier(log: Path) -> Path:
    return log.with_name(f"{log.name}.1")
