"""What a figure may come from besides the engine: machine, versions, weights, threads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from harness.comparison.records import FieldDifference
from harness.machine.environment import Environment
from harness.scoring.caveats import MUCH_OTHER_CPU
from harness.store.runs import StoredEntry
from harness.store.schema import SessionRow
from harness.summary import is_mock

_OF_VERSION = (
    "engine_version",
    "weights",
    "allocated_context",
    "shared_block_tokens",
    "vocabulary_sha256",
)
_OF_USE = ("device", "threads")
_OF_ABILITY = ("label_logprobs", "clock", "location")

_SHARE = "other_cpu_share"

OF_ENGINE = frozenset({*_OF_VERSION, "model_sha256"})
"""What two engines differ in by their nature."""


def conditions(entry: StoredEntry) -> dict[str, Any]:
    """By name, all that is stored of them: a list where it was not the same in all sessions."""
    run = entry.run.environment
    every = [
        {**_of_environment(_environment(session) or run), **_of_session(session)}
        for session in entry.sessions
    ] or [_of_environment(run)]  # no session was opened
    merged: dict[str, Any] = {}
    for name in dict.fromkeys(name for one in every for name in one):
        # A list, not a set: some values are lists, which cannot be in a set.
        values: list[Any] = []
        for one in every:
            if one.get(name) not in values:
                values.append(one.get(name))
        merged[name] = values[0] if len(values) == 1 else values
    share = entry.summary.speed.other_cpu_share if entry.run.is_finished else None
    # The speed of a mock is made up, whoever uses the processors.
    if share is not None and share >= MUCH_OTHER_CPU and not is_mock(entry.summary):
        merged[_SHARE] = f"{share:.2f}"
    return merged


def _environment(session: SessionRow) -> Environment | None:
    """That of a session, `None` where it is the run's."""
    if session.environment is None:
        return None
    return Environment.model_validate_json(session.environment)


def _of_environment(environment: Environment) -> dict[str, Any]:
    machine = environment.model_dump(mode="json", exclude={"created", "git_revision", "packages"})
    packages = named("packages", environment.packages)
    return {"git_revision": environment.git_revision, **machine, **packages}


def _of_session(session: SessionRow) -> dict[str, Any]:
    info = {name: getattr(session.info, name) for name in (*_OF_USE, *_OF_VERSION)}
    can = session.info.capabilities
    abilities = {name: getattr(can, name) for name in _OF_ABILITY}
    return {**info, **abilities, "model_sha256": session.model_sha256}


def named(group: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """The same values under names such as `packages.numpy`."""
    return {f"{group}.{name}": value for name, value in values.items()}


def _is_alike(name: str, ones: Mapping[str, Any], others: Mapping[str, Any]) -> bool:
    """Whether shares of the processors are as good as the same: no two are equal."""
    shares = [float(one.get(name) or 0) for one in (ones, others)] if name == _SHARE else []
    return bool(shares) and abs(shares[0] - shares[1]) < MUCH_OTHER_CPU


def differing(ones: Mapping[str, Any], others: Mapping[str, Any]) -> Iterator[FieldDifference]:
    """The names under which there is not the same."""
    for name in dict.fromkeys([*ones, *others]):
        if ones.get(name) != others.get(name) and not _is_alike(name, ones, others):
            yield FieldDifference(field=name, first=ones.get(name), other=others.get(name))
