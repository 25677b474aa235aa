"""What the user's cache holds of models: converted ones, tokenizers, files put together of parts.

All of it can be made again, from the model that it was made of. Only what the harness made is
listed and removed: by its name, by the manifest in it, and never through a link.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from harness.contract import free, mark_of
from harness.engine.models import KNOWN_MODELS, models_cache

_MADE = re.compile(r"(?P<kind>safetensors|tokenizer)-[0-9a-f]{16}(-\d+)?")
_HALF = re.compile(r"\.((safetensors|tokenizer)-[0-9a-f]{16}(-\d+)?|alone-\w+)")
_MANIFEST = "manifest.json"  # which a finished one has


@dataclass(frozen=True, slots=True)
class Converted:
    """A folder or a file of the cache, made of the model whose file is called `model`.

    `locks` are those that whoever uses it holds.
    """

    model: str
    kind: str
    path: Path
    size_bytes: int
    last_used: datetime
    locks: Sequence[Path]

    @property
    def is_in_use(self) -> bool:
        with free(*self.locks) as is_free:
            return not is_free

    def remove(self) -> bool:
        """False, and nothing is removed, where it is in use. Raises `OSError`."""
        for lock in self.locks:
            lock.open("a").close()  # one that is not there could be taken meanwhile
        with free(*self.locks) as is_free:
            if is_free and self.path.is_dir():
                shutil.rmtree(self.path)
            elif is_free:
                self.path.unlink()
            return is_free


def converted_models() -> list[Converted]:
    """The largest first."""
    found: list[Converted] = []
    with suppress(OSError):  # no cache, or another user's
        for folder in models_cache().iterdir():
            if folder.is_dir() and not folder.is_symlink():
                found += _in_folder(folder)
    return sorted(found, key=lambda one: (-one.size_bytes, str(one.path)))


def _in_folder(folder: Path) -> Iterator[Converted]:
    for path in folder.iterdir():
        if path.is_symlink():
            continue
        if made := _MADE.fullmatch(path.name):
            if (path / _MANIFEST).is_file():
                yield _converted(path, made["kind"], [_lock(path), mark_of(path)])
        elif _HALF.fullmatch(path.name) and path.is_dir():
            # It may be of any that is being made here.
            yield _converted(path, "unfinished", sorted(folder.glob("*.lock")))
        elif path in {model.joined_path for model in KNOWN_MODELS.values()} and path.is_file():
            yield _converted(path, "joined", [mark_of(path)])


def _lock(path: Path) -> Path:
    """The one that is held while it is made."""
    return path.with_name(f"{path.name}.lock")


def _converted(path: Path, kind: str, locks: Sequence[Path]) -> Converted:
    files = [path, *path.rglob("*")] if path.is_dir() else [path]
    used = mark_of(path)
    seconds = (used if used.exists() else path).stat().st_mtime
    return Converted(
        model=path.parent.name,
        kind=kind,
        path=path,
        size_bytes=sum(file.lstat().st_size for file in files if not file.is_dir()),
        last_used=datetime.fromtimestamp(seconds, UTC),
        locks=locks,
    )
