"""The points of a curve: a flag of `harness run` that was given a list of numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from harness.errors import UsageError

if TYPE_CHECKING:
    from harness.spec import RunSpec

_AS_MANY_AS_FIT = "max"


def take_lists(given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, list[Any]]]:
    """The flags as those of one run have them, and the values of those that have several.

    Such a flag has its first number, so that it is checked with the others. Raises `UsageError`.
    """
    from harness.comparison.curve import VARIED
    from harness.spec import CONCURRENCY

    flags = dict(given)
    lists: dict[str, list[Any]] = {}
    for name in (*VARIED, CONCURRENCY):
        text = flags.get(name)
        if not isinstance(text, str):
            continue
        flag = _flag(name)
        values = [_value(flag, part.strip()) for part in text.split(",")]
        if twice := [one for one in values if values.count(one) > 1]:
            said = _AS_MANY_AS_FIT if twice[0] is None else twice[0]
            raise UsageError(f"{flag} has {said} twice", remedy="Give each number once.")
        # The fewest first, so that the memory of a point is not that of a larger one before it.
        lists[name] = sorted(values, key=lambda one: (one is None, one or 0))
        flags[name] = next((one for one in lists[name] if one is not None), None)
    if len(lists) > 1:
        named = " and ".join(map(_flag, lists))
        raise UsageError(f"{named} are both lists", remedy="Give a list of one of them.")
    return flags, lists


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _value(flag: str, text: str) -> int | None:
    if flag == "--shots" and text == _AS_MANY_AS_FIT:
        return None
    try:
        return int(text)
    except ValueError:
        many = f", {_AS_MANY_AS_FIT} for as many as fit" if flag == "--shots" else ""
        raise UsageError(
            f"{flag}: {text!r} is no whole number",
            remedy=f"Give numbers with commas between them{many}.",
        ) from None


def points_of(spec: RunSpec, lists: Mapping[str, Sequence[Any]]) -> list[RunSpec]:
    """The spec with each value. Raises `UsageError` for one that cannot be."""
    from harness.spec import CONCURRENCY, merge_spec

    given = spec.model_dump(exclude_unset=True)
    changes = (
        {"engine": {name: value}} if name == CONCURRENCY else {name: value}
        for name, values in lists.items()
        for value in values
    )
    return [merge_spec(given, change, "the flags") for change in changes]
