"""Folders that outlive a worker: its temporary one goes with it."""

from __future__ import annotations

import getpass
import os
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
    one. Without a cache, it compiles them for each worker."""
    with suppress(OSError, KeyError):  # KeyError: of a user without a name
        kept = cache_folder() / "torch"
        kept.mkdir(parents=True, exist_ok=True)
        link = Path(tempfile.gettempdir()) / f"torchinductor_{getpass.getuser()}"
        link.symlink_to(kept, target_is_directory=True)
