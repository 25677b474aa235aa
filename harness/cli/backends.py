"""`harness backends`: which engines are registered, and which can run here."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.cli.console import give
from harness.cli.options import JsonOption
from harness.errors import EngineError

if TYPE_CHECKING:
    from harness.engine.registry import Registered

CHECK_SECONDS = 120.0
"""Importing a large engine for the first time takes long."""


@dataclass(frozen=True, slots=True)
class Checked:
    """A backend; `remedy` makes it run here if it cannot, for `reason`."""

    name: str
    available: bool
    mock: bool
    version: str
    formats: tuple[str, ...]
    reason: str
    remedy: str


def backends(json: JsonOption = False) -> None:
    """List the registered engines, and tell which can run here."""
    from harness.engine.registry import registered_backends
    from harness.report.table import simple_table

    with ThreadPoolExecutor() as pool:  # each check waits for a process of its own
        every = list(pool.map(check, registered_backends()))
    titles = ("backend", "runs here", "version", "model formats", "if not, why")
    give([asdict(one) for one in every], simple_table(titles, map(_cells, every)), json)


def check(registered: Registered) -> Checked:
    """Asks a backend in a worker; one that cannot be imported cannot run."""
    from harness.engine.session import check_backend

    try:
        formats = tuple(registered.load().FORMATS)
    except EngineError as error:
        return Checked(registered.name, False, False, "", (), str(error), error.remedy)
    found = check_backend(registered.target, CHECK_SECONDS, Path(os.devnull))
    return Checked(
        name=registered.name,
        available=found.available,
        mock=found.is_mock,
        version=found.version,
        formats=formats,
        reason=found.reason,
        remedy=found.remedy,
    )


def _cells(one: Checked) -> list[str]:
    verdict = "yes" if one.available else "no"
    return [
        one.name,
        f"{verdict}, a MOCK" if one.mock else verdict,
        one.version,
        ", ".join(one.formats),
        "\n".join(filter(None, [one.reason, one.remedy])),
    ]
