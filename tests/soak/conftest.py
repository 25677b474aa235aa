"""What all soak tests share: how much is tried, from which seed, and one table of what came of it.

make soak                about ten minutes
make soak SOAK=full      hundreds of each kind
make soak SEED=7         others of each kind
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from random import Random
from typing import TypeVar

import pytest

T = TypeVar("T")

SIZES = {
    "sample": {
        "kills": 60,
        "fields": 100,
        "records": 30,
        "templates": 40,
        "pairs": 50,
        "restarts": 4,
    },
    "full": {
        "kills": 300,
        "fields": 600,
        "records": 100,
        "templates": 60,
        "pairs": 200,
        "restarts": 20,
    },
}
_ROW = "{:<26}{:>8}{:>14}{:>18}"


@dataclass(frozen=True, slots=True)
class Soak:
    size: str
    seed: int
    outcomes: dict[str, dict[str, str]] = field(default_factory=dict)

    def draw(self, what: str, every: Iterable[T]) -> Iterator[T]:
        """All of them in an order that the seed gives; as many are to be tried as `most` says."""
        drawn = list(every)
        Random(f"{what} {self.seed}").shuffle(drawn)
        return iter(drawn)

    def most(self, what: str) -> int:
        return SIZES[self.size][what]

    def count(self, kind: str, name: str, fault: str) -> None:
        """`fault`: the promise that was broken, in words, or nothing."""
        self.outcomes.setdefault(kind, {})[name] = fault

    def faults(self, kind: str) -> dict[str, str]:
        return {name: fault for name, fault in self.outcomes.get(kind, {}).items() if fault}

    def table(self) -> Iterator[str]:
        rows = [(kind, len(tried), len(self.faults(kind))) for kind, tried in self.outcomes.items()]
        rows.append(("all", sum(row[1] for row in rows), sum(row[2] for row in rows)))
        yield _ROW.format("kind", "tried", "as promised", "broken promises")
        for kind, tried, broken in rows:
            yield _ROW.format(kind, tried, tried - broken, broken)


_SOAK = pytest.StashKey[Soak]()


def pytest_configure(config: pytest.Config) -> None:
    size = os.environ.get("SOAK", "sample")
    if size not in SIZES:
        raise pytest.UsageError(f"SOAK is {size!r}, not one of: {', '.join(SIZES)}")
    config.stash[_SOAK] = Soak(size, int(os.environ.get("SEED", "0")))


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    soak = config.stash[_SOAK]
    terminalreporter.section(f"soak: {soak.size}, seed {soak.seed}")
    for line in soak.table():
        terminalreporter.line(line)


@pytest.fixture(scope="session")
def soak(pytestconfig: pytest.Config) -> Soak:
    return pytestconfig.stash[_SOAK]
