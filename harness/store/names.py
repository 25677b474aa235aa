"""What a run may be called, and which run a word means."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path

from harness.errors import StoreError, UsageError
from harness.imports.records import PREFIX
from harness.spec import safe_name
from harness.store.schema import RunRow

LATEST = "latest"
NEAR_RUNS = 5  # that an error names
_LONGEST = 100


def check_name(name: str) -> None:
    """Raises `UsageError` where a run cannot be called so.

    A name begins with a letter, so none is an id or the beginning of one.
    """
    is_safe = name == safe_name(name) and name[:1].isalpha() and len(name) <= _LONGEST
    if not is_safe or name == LATEST or name.startswith(PREFIX):
        raise UsageError(
            f"a run cannot be called {name!r}",
            remedy=f"Begin with a letter; use letters, digits and . _ @ + - only, at most "
            f'{_LONGEST}. "{LATEST}" and what begins with {PREFIX!r} mean something else.',
        )


def check_unused(name: str, rows: Sequence[RunRow]) -> None:
    """Raises `UsageError` where a run or a group is called so already."""
    if any(name in (row.run_id, row.name, row.group) for row in rows):
        raise UsageError(
            f"the name {name!r} is used already",
            remedy=f"Give another one; or `harness delete {name}` first, if it is not needed.",
        )


def find_run(path: Path, wanted: str, rows: Sequence[RunRow]) -> RunRow:
    """The run that a word means: its id, its name, the beginning of its id, or "latest" for the
    newest that is in no group. `rows` are all of the store at `path`, the newest first."""
    if not rows:
        raise StoreError(f"{path} holds no runs.", remedy="Start one with `harness run`.")
    if wanted == LATEST:
        return _latest(path, rows)
    for row in rows:
        if wanted in (row.run_id, row.name):
            return row
    names = [row.name for row in rows if row.name]
    run_id = begun_by(path, wanted, [row.run_id for row in rows], "runs", f'"{LATEST}"', names)
    return next(row for row in rows if row.run_id == run_id)


def begun_by(
    path: Path,
    wanted: str,
    ids: Sequence[str],
    kind: str,
    more: str = "",
    names: Sequence[str] = (),
) -> str:
    """The one that is `wanted`, or begins so."""
    found = [wanted] if wanted in ids else [one for one in ids if one.startswith(wanted)]
    if len(found) == 1:
        return found[0]
    begun = (one for one in names if one.startswith(wanted))
    every = list(dict.fromkeys([*begun, *names, *ids]))
    near = found or difflib.get_close_matches(wanted, every, NEAR_RUNS) or every
    or_more = f"; or {more}" if more else ""
    named = ", or that are called so" if names and not found else ""
    raise StoreError(
        f"{path} holds {len(found) or 'no'} {kind} whose id begins with {wanted!r}{named}.",
        remedy=f"Give one of: {', '.join(near[:NEAR_RUNS])}{or_more}.",
    )


def _latest(path: Path, rows: Sequence[RunRow]) -> RunRow:
    for row in rows:
        if row.group is None:
            return row
    groups = ", ".join(dict.fromkeys(row.group for row in rows if row.group))
    raise StoreError(
        f"{path} holds no run outside of a group.",
        remedy=f"Give a run by its id, or a group: {groups}.",
    )
