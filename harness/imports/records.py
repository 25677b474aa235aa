"""What other tools have measured, as records of one kind."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Annotated, Any, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from harness.record import Record

PREFIX = "import-"
"""What the id of every import begins with, and that of no run."""

Document: TypeAlias = Mapping[str, object]
Positive: TypeAlias = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Figure(Record):
    """One figure, as its tool stated it.

    `metric` is a name of `harness.comparison.metrics.METRICS` where it means the same. `stderr` is
    the tool's own standard error, `count` over how many documents or requests the value is,
    `samples` are what it was made of, in the same unit and in order: `None`, or none of them, where
    the tool does not state it.
    """

    metric: str
    unit: str
    value: float
    stderr: float | None = None
    count: int | None = None
    samples: tuple[float, ...] = ()


class Imported(Record):
    """One test that a tool ran: the figures, each metric once, the most telling first.

    Texts are the tool's own words, untrusted; empty where it stated nothing. `conditions` are those
    that decide whether the figures can be compared: machine, threads, sizes, rates.
    """

    tool: str
    tool_version: str
    engine: str
    model: str
    test: str
    figures: tuple[Figure, ...]
    conditions: dict[str, str] = Field(default={})
    is_mock: bool = False


@dataclass(frozen=True, slots=True)
class ImportFile:
    """A file that was read: its name without folders, its hash, and the tests in it."""

    name: str
    sha256: str
    tests: tuple[Imported, ...]


@dataclass(frozen=True, slots=True)
class ImportRow:
    """A test as it is stored. `name` is the user's for it, or the file's; `created` is ISO-8601 in
    UTC: when it was imported, not when it was measured."""

    import_id: str
    created: str
    name: str
    file_name: str
    file_sha256: str
    imported: Imported

    @property
    def by_metric(self) -> dict[str, Figure]:
        return {figure.metric: figure for figure in self.imported.figures}


class Stated(BaseModel):
    """A part of a document that has to be as expected. What else stands there is not looked at."""

    # Strict: no text is read as a number. pydantic reserves names that begin with `model_`, which
    # tools use.
    model_config = ConfigDict(frozen=True, extra="ignore", strict=True, protected_namespaces=())


@dataclass(frozen=True, slots=True)
class Reader:
    """Reads the documents that have all of these keys; raises pydantic's `ValidationError`."""

    keys: frozenset[str]
    read: Callable[[Document], list[Imported]]


def conditions(document: Document, names: Collection[str]) -> dict[str, str]:
    """Those that are stated in one word or number, as text."""
    stated = {name: document.get(name) for name in names}
    return {
        name: str(value)
        for name, value in stated.items()
        if isinstance(value, str | int | float) and value != ""
    }


def finite(value: object) -> float | None:
    """A number that is one; `None` for anything else."""
    # In Python `True` is an int.
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if isfinite(value) else None


def base_name(path: str) -> str:
    """The last part of a path of any system: folders show whose machine it was."""
    return re.split(r"[\\/]", path.rstrip("\\/"))[-1]


def model_name(stated: str) -> str:
    """A name of a hub as it is, a path without its folders."""
    # A name of a hub has one slash (`owner/name`), so more of them make a path, as an address does.
    is_path = stated.startswith(("/", "\\", "~", ".")) or ":" in stated or stated.count("/") > 1
    return base_name(stated) if is_path else stated


def import_json(row: ImportRow) -> dict[str, Any]:
    """Everything that is stored of it."""
    return {
        "import_id": row.import_id,
        "created": row.created,
        "name": row.name,
        "file_name": row.file_name,
        "file_sha256": row.file_sha256,
        **row.imported.model_dump(mode="json"),
    }
