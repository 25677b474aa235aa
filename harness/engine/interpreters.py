"""Which Python runs a backend's worker: ours, or another that the config names.

Engines pin torch against each other, so a backend may live in an environment of its own
(`[backends.NAME] python = "..."`). What such a Python needs of ours is `backends/` alone: it is put
on its path by itself, without the packages beside it.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

import platformdirs

import backends
from harness.errors import EngineError


def find_interpreter(name: str, configured: object) -> str:
    """The Python for a backend, as an absolute path: the configured one, or ours if none is."""
    if configured is None:
        return sys.executable
    found = shutil.which(str(configured))
    if found is None:
        raise EngineError(
            f"backend {name}: there is no interpreter {configured}",
            remedy=f"Mend `python` in [backends.{name}].",
        )
    return str(Path(found).absolute())


def worker_environment(python: str) -> Mapping[str, str]:
    """The variables of a worker's process."""
    if python == sys.executable:
        return os.environ
    return {**os.environ, "PYTHONPATH": str(_folder_with_backends_only())}


def _folder_with_backends_only() -> Path:
    package = Path(backends.__file__).resolve().parent
    name = hashlib.sha256(str(package).encode()).hexdigest()[:16]
    folder = platformdirs.user_cache_path("llm-harness") / "path" / name
    folder.mkdir(parents=True, exist_ok=True)
    link = folder / package.name
    if not link.is_symlink():
        # Under another name first: two runs that start together both succeed.
        fresh = folder / f".{os.getpid()}"
        fresh.symlink_to(package, target_is_directory=True)
        fresh.replace(link)
    return folder
