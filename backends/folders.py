"""Folders that outlive a worker: its temporary one goes with it."""

from __future__ import annotations

import getpass
import os
import re
import sys
import tempfile
from contextlib import suppress
from pathlib import Path


def cache_folder() -> Path:
    """The user's own, for what takes long to make and can be made again."""
    home = "~/Library/Caches" if sys.platform == "darwin" else "~/.cache"
    base = os.environ.get("XDG_CACHE_HOME") or home
    return Path(base).expanduser() / "llm-harness"


def keep_torch_headers() -> None:
    """torch compiles its headers, for some ten seconds, into a folder of this name in the temporary
    one. There they would go with the worker, so they lie in the user's cache. Where that cannot be
    written, each worker compiles them again."""
    # KeyError: of a user without a name; RuntimeError: without a home folder.
    with suppress(OSError, KeyError, RuntimeError):
        headers = cache_folder() / "torch-headers"
        headers.mkdir(parents=True, exist_ok=True)
        if not os.access(headers, os.W_OK | os.X_OK):
            return
        user = re.sub(r'[\\/:*?"<>|]', "_", getpass.getuser())  # as torch has it
        folder = Path(tempfile.gettempdir()) / f"torchinductor_{user}"
        folder.mkdir(exist_ok=True)
        (folder / "precompiled_headers").symlink_to(headers, target_is_directory=True)
