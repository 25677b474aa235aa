"""Who prompts for a run, or fits its baselines: one process at a time.

The lock is one of the kernel's, on a file beside the store, so it ends with the process that holds
it, however that ends. A run has a file of its own: new runs never wait for each other. The file
holds the number of the process, for whoever finds it locked, and is removed in the end.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from harness.errors import StoreError
from harness.spec import safe_name


class InUseError(StoreError):
    """Another process holds the lock."""


@contextmanager
def prompting(folder: Path, run_id: str) -> Iterator[None]:
    """Holds the lock of a run, or of the name of a group. Raises `InUseError` where another process
    does, and `StoreError` where it cannot be held."""
    path = folder / f"{safe_name(run_id)}.lock"
    try:
        file = _locked(path)
    except BlockingIOError as error:
        raise InUseError(
            f"run {run_id} is in use by {_holder(path)}",
            remedy="Wait until it has ended, or end it; then give the command again.",
        ) from error
    except OSError as error:
        raise StoreError(
            f"{path} cannot be locked: {error.strerror}",
            remedy="Give a results folder on this machine that you may write to, with room on its "
            "disk.",
        ) from error
    try:
        with suppress(OSError):  # a full disk: the lock holds, and nobody is named
            os.ftruncate(file, 0)
            os.write(file, str(os.getpid()).encode())
        yield
    finally:
        # Removed before it is unlocked: afterwards, another process may hold the lock on this file.
        path.unlink(missing_ok=True)
        os.close(file)


def is_any_prompted(folder: Path) -> bool:
    """Whether a process prompts a run of this folder just now."""
    for path in folder.glob("*.lock"):
        try:
            file = _locked(path)
        except BlockingIOError:
            return True
        except OSError:  # of a folder that cannot be written: nobody can lock it
            continue
        path.unlink(missing_ok=True)  # left over; as above, before it is unlocked
        os.close(file)
    return False


def _locked(path: Path) -> int:
    """The file, open and locked. One that another holder removed meanwhile is no lock any more."""
    while True:
        # Not emptied: it may have the number of the process that holds the lock.
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.exists() and os.path.samestat(os.fstat(file), path.stat()):
                return file
        except BaseException:
            os.close(file)
            raise
        os.close(file)


def _holder(path: Path) -> str:
    try:
        return f"process {int(path.read_text())}"
    except (OSError, ValueError):
        return "another process"
