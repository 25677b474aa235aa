"""The temporary folder of a worker: what an engine leaves in it goes with it, however that ends.

vLLM, for one, leaves sockets and files when it is killed.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from pathlib import Path

from harness.errors import EngineError

_PREFIX = "lh-"
_TRIES, _BETWEEN_SECONDS = 10, 0.05
# A socket's path has at most 107 characters, on macOS 103. In the folder (12 more with its name),
# vLLM's have a UUID for a name.
_LONGEST_PARENT = 103 - 12 - 37


def make_scratch() -> Path:
    """A new folder in the user's temporary folder; in /tmp where the paths of sockets in it would
    be too long. Raises `EngineError` where it cannot be made."""
    parent = "/tmp"  # noqa: S108 - only as a parent: the folder's own name is a new one
    try:
        found = tempfile.gettempdir()  # raises where it can write to none
        if len(os.fsencode(found)) <= _LONGEST_PARENT:
            parent = found
        return Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
    except OSError as error:
        raise EngineError(
            f"no temporary folder can be made in {parent}: {error.strerror}",
            remedy="Set TMPDIR to a folder that you may write to, with room on its disk, whose "
            f"path has at most {_LONGEST_PARENT} characters: sockets have to lie in it.",
        ) from error


def remove_scratch(folder: Path) -> None:
    """Its worker has ended. Of the worker's children the last may not quite have, and put a file
    into it."""
    for _ in range(_TRIES):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
        time.sleep(_BETWEEN_SECONDS)
