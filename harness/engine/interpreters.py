"""Which Python runs a backend's worker: ours, or one of the backend's own.

Engines pin torch against each other, so a backend may live in an environment of its own: one that
`harness backends install NAME` made under the user's data folder, or one that the config names
(`[backends.NAME] python = "..."`). What such a Python needs of ours is `backends/`, and the
module of a third party's backend: these are put on its path by themselves, without the packages
beside them.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from uuid import uuid4

import platformdirs

from harness.contract import BACKENDS
from harness.errors import EngineError

APP = "llm-harness"


@dataclass(frozen=True, slots=True)
class OwnEnvironment:
    """A backend's own environment. It is whole once its stamp is there, which is written last."""

    folder: Path

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    @property
    def stamp(self) -> Path:
        return self.folder / "llm-harness.json"

    @property
    def is_whole(self) -> bool:
        with suppress(PermissionError):  # HOME is another user's: what is there is not ours
            return self.stamp.is_file() and self.python.exists()
        return False


def own_environment(name: str) -> OwnEnvironment:
    """Where the environment of a backend is, or would be."""
    return OwnEnvironment(platformdirs.user_data_path(APP) / "backends" / name)


def find_interpreter(name: str, configured: object) -> str:
    """The Python for a backend, as an absolute path: the configured one, its own, or ours."""
    if configured is None:
        own = own_environment(name)
        return str(own.python) if own.is_whole else sys.executable
    found = shutil.which(Path(str(configured)).expanduser())
    if found is None:
        raise EngineError(
            f"backend {name}: there is no interpreter {configured}",
            remedy=f"Fix `python` in [backends.{name}], or in the table of the entry.",
        )
    # Not `resolve`: `bin/python` of a virtual environment is a link, and only under its own name
    # does Python find the environment's packages.
    return str(Path(found).absolute())


def worker_environment(python: str, target: str) -> Mapping[str, str]:
    """The variables of a worker's process; `target` is the backend, as `module[:attribute]`."""
    if python == sys.executable:
        return os.environ
    top_level = target.partition(":")[0].partition(".")[0]
    theirs = () if top_level == BACKENDS.name else _sources(top_level)
    # Not the folder they lie in: that may be our site-packages, and the other Python would take our
    # torch for its own.
    return {**os.environ, "PYTHONPATH": str(_folder_with_only([BACKENDS.resolve(), *theirs]))}


def _sources(module: str) -> Sequence[Path]:
    """The folder or the file of a top-level module; none where there is no such module."""
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        return ()
    source = Path(spec.origin).resolve()
    return (source.parent if spec.submodule_search_locations else source,)


def _folder_with_only(sources: Sequence[Path]) -> Path:
    """A folder of links to these."""
    # Named after its sources: two installed harnesses of one user have a folder each.
    name = hashlib.sha256("\n".join(map(str, sources)).encode()).hexdigest()[:16]
    folder = platformdirs.user_cache_path(APP) / "path" / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for source in sources:
            link = folder / source.name
            if not link.is_symlink():
                # Under a name of its own first: of several that start together, all succeed.
                fresh = folder / f".{uuid4().hex}"
                fresh.symlink_to(source)
                fresh.replace(link)
    except OSError as error:
        raise EngineError(
            f"the folder {folder} cannot be made: {error.strerror}",
            remedy="Set XDG_CACHE_HOME to a folder that you may write to, with room on its disk.",
        ) from error
    return folder
