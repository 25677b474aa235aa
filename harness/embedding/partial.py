"""What is embedded so far, in a folder beside the result: after any end, it goes on there.

    OUT.part/plan.json     what is embedded, and how: only the same command goes on
             files.jsonl   a line for each file: its hash, and why it was skipped, if it was
             vectors.f32   the vectors of those that were not, as they are in memory
             log           what the worker printed

Vectors are written before the lines that count them. So after any end, what no line counts is cut
off, and the rest is whole.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from harness.contract import Embedded
from harness.errors import StoreError, UsageError


@dataclass(frozen=True, slots=True)
class Line:
    """One file that is done; `skipped` is empty where it was embedded."""

    sha256: str
    skipped: str
    note: str


class Partial:
    """The folder, locked. `done` has a line for each file that is done, in order."""

    def __init__(self, folder: Path, dimensions: int, done: list[Line]) -> None:
        self.folder = folder
        self.dimensions = dimensions
        self.done = done
        self._open()

    def add(self, batch: Sequence[Embedded]) -> None:
        for one in batch:
            if one.vector is not None:
                self._vectors.write(one.vector.tobytes())
        self._vectors.flush()
        lines = [Line(one.sha256, one.skipped, one.note) for one in batch]
        self._lines.write("".join(json.dumps(asdict(line)) + "\n" for line in lines))
        self._lines.flush()
        self.done += lines

    def vectors(self) -> NDArray[np.float32]:
        """All of them so far, (n, dimensions), read from the file as they are needed."""
        self._vectors.flush()
        count = sum(not line.skipped for line in self.done)
        if not count:
            return np.empty((0, self.dimensions), np.float32)
        path = self.folder / _VECTORS
        return np.memmap(path, np.dtype("<f4"), mode="r", shape=(count, self.dimensions))

    def cut(self, count: int) -> None:
        """Leaves the first `count` files, as if no more had been done."""
        self.close()
        self.done = _cut_to(self.folder, self.done[:count], self.dimensions)
        self._open()

    def _open(self) -> None:
        self._lines: IO[str] = (self.folder / _LINES).open("a", encoding="utf-8")
        self._vectors: IO[bytes] = (self.folder / _VECTORS).open("ab")

    def close(self) -> None:
        self._lines.close()
        self._vectors.close()


_PLAN, _LINES, _VECTORS = "plan.json", "files.jsonl", "vectors.f32"


@contextmanager
def locked(out: Path) -> Iterator[Path]:
    """The folder of what is embedded so far; no other process embeds to `out` meanwhile."""
    folder = out.with_name(f"{out.name}.part")
    try:
        folder.mkdir(exist_ok=True)
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise StoreError(
            f"{folder} cannot be made: {error.strerror}",
            remedy="Name an output in a folder that you may write to, with room on its disk.",
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield folder
    except BlockingIOError as error:
        raise StoreError(
            f"another process embeds to {out}", remedy="Wait until it has ended, or end it."
        ) from error
    finally:
        os.close(lock)


@contextmanager
def opened(folder: Path, plan: Mapping[str, Any], batch: int) -> Iterator[Partial]:
    """Goes on where the same plan was left, else begins. `plan` has the vectors' `dimensions`.

    Raises `UsageError` where another plan was left there.
    """
    dimensions = int(plan["dimensions"])
    path = folder / _PLAN
    if path.exists():
        _check_same(path, plan)
        done = _cut(folder, dimensions, batch)
    else:
        for name in (_LINES, _VECTORS):
            (folder / name).unlink(missing_ok=True)
        scratch = folder / f"{_PLAN}.new"
        scratch.write_text(json.dumps(plan, indent=2), encoding="utf-8")
        scratch.replace(path)
        done = []
    partial = Partial(folder, dimensions, done)
    try:
        yield partial
    finally:
        partial.close()


def remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


def remove_unbegun(folder: Path) -> None:
    """Where nothing was embedded yet: there is nothing to go on with."""
    if not (folder / _PLAN).exists():
        remove(folder)


def _check_same(path: Path, plan: Mapping[str, Any]) -> None:
    try:
        earlier = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        earlier = None
    if earlier == json.loads(json.dumps(plan)):
        return
    unlike = sorted(
        key for key in plan if not isinstance(earlier, dict) or earlier.get(key) != plan[key]
    )
    raise UsageError(
        f"{path.parent} holds what another command has embedded so far; different: "
        f"{', '.join(unlike)}",
        remedy="Give that command again, remove the folder, or name another output.",
    )


def _cut(folder: Path, dimensions: int, batch: int) -> list[Line]:
    """The whole batches that are there, in lines and in vectors; what is more is cut off."""
    lines = _read_lines(folder / _LINES)
    vectors = folder / _VECTORS
    rows = vectors.stat().st_size // _row_bytes(dimensions) if vectors.exists() else 0
    while sum(not line.skipped for line in lines) > rows:
        lines.pop()
    del lines[len(lines) - len(lines) % batch :]
    return _cut_to(folder, lines, dimensions)


def _cut_to(folder: Path, lines: list[Line], dimensions: int) -> list[Line]:
    text = "".join(json.dumps(asdict(line)) + "\n" for line in lines)
    (folder / _LINES).write_text(text, encoding="utf-8")
    with (folder / _VECTORS).open("ab") as stream:
        stream.truncate(_row_bytes(dimensions) * sum(not line.skipped for line in lines))
    return lines


def _row_bytes(dimensions: int) -> int:
    return dimensions * np.dtype(np.float32).itemsize


def _read_lines(path: Path) -> list[Line]:
    """Those that were written whole."""
    lines: list[Line] = []
    if not path.exists():
        return lines
    with path.open(encoding="utf-8", errors="replace") as stream:
        for text in stream:
            try:
                lines.append(Line(**json.loads(text)))
            except (ValueError, TypeError):  # the last one, which was not finished
                break
    return lines
