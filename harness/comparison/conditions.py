"""What a figure may come from besides the engine: machine, versions, weights, threads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from harness.comparison.records import FieldDifference
from harness.machine.environment import Environment
from harness.store.schema import SessionRow

_OF_VERSION = (
    "engine_version",
    "weights",
    "allocated_context",
    "shared_block_tokens",
    "vocabulary_sha256",
)
_OF_USE = ("device", "threads")

OF_ENGINE = frozenset({*_OF_VERSION, "model_sha256"})
"""What two engines differ in anyway."""


def conditions(environment: Environment, session: SessionRow) -> dict[str, Any]:
    """By name, all that is kept of them."""
    machine = environment.model_dump(mode="json", exclude={"created", "git_revision", "packages"})
    packages = named("packages", environment.packages)
    info = {name: getattr(session.info, name) for name in (*_OF_USE, *_OF_VERSION)}
    return {**machine, **packages, **info, "model_sha256": session.model_sha256}


def named(group: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Under names of which each begins with that of their group."""
    return {f"{group}.{name}": value for name, value in values.items()}


def differing(ones: Mapping[str, Any], others: Mapping[str, Any]) -> Iterator[FieldDifference]:
    """The names under which there is not the same."""
    for name in dict.fromkeys([*ones, *others]):
        if ones.get(name) != others.get(name):
            yield FieldDifference(field=name, first=ones.get(name), other=others.get(name))
