"""Records of what a user wrote, and errors that say what to write instead.

pydantic checks; its own words are about Python, and are said here in the user's.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from harness.errors import UsageError

_Model = TypeVar("_Model", bound=BaseModel)


def validated(
    model: type[_Model],
    table: Mapping[str, object],
    where: str,
    flags: Collection[str] = (),
    more_keys: Collection[str] = (),
) -> _Model:
    """A record of a mapping, whose `flags` came from the command line and all else from `where`.

    `more_keys` may stand there, too, beside the fields of the record. Raises `UsageError` that
    names every key that is wrong.
    """
    try:
        return model.model_validate(dict(table))
    except ValidationError as error:
        # Of a union, pydantic has an error for each member. The first is enough: going backwards,
        # it is the one that stays.
        wrong = {_place(item["loc"]): item for item in reversed(error.errors())}
        said = [_explained(place, item, where, flags) for place, item in reversed(wrong.items())]
        unknown = [str(item["loc"][-1]) for item in reversed(wrong.values()) if _is_unknown(item)]
        known = [*model.model_fields, *more_keys]
        raise UsageError("; ".join(said), remedy=_remedy(unknown, known)) from error


_TABLES_OF_TABLES = ("backends", "entries", "models")


def _place(location: tuple[int | str, ...]) -> tuple[str, ...]:
    """The key, and the keys in its tables; what stands behind them is pydantic's own."""
    depth = 3 if location[:1] and location[0] in _TABLES_OF_TABLES else 2
    return tuple(map(str, location[:depth]))


def _is_unknown(item: Any) -> bool:
    return bool(item["type"] == "extra_forbidden")


def _explained(place: tuple[str, ...], item: Any, where: str, flags: Collection[str]) -> str:
    if not place:
        return f"{where}: {_own_words(item)}"
    if _is_unknown(item):
        return f"{where}: there is no key {'.'.join(place)}"
    is_flag = place[0] in flags
    name = f"--{place[0].replace('_', '-')}" if is_flag else f"{where}: {'.'.join(place)}"
    value = item["input"]
    written = str(value).lower() if isinstance(value, bool) else repr(value)
    return f"{name} is {written}: {_allowed(item)}"


_ALLOWED = {
    "greater_than_equal": "use {ge:g} or more",
    "greater_than": "use more than {gt:g}",
    "less_than_equal": "use {le:g} or less",
    "less_than": "use less than {lt:g}",
    "finite_number": "use a number that is finite",
    "literal_error": "use one of: {expected}",
    "enum": "use one of: {expected}",
    "string_type": "use a text",
    "dict_type": "use a table",
}
_KINDS = {"int": "use a whole number", "float": "use a number", "bool": "use true or false"}
_ANY_SCALAR = "use a number, a text, true or false"  # what an option of an engine may be


def _allowed(item: Any) -> str:
    """What to write instead, by pydantic's kinds of errors."""
    kind, context = item["type"], item.get("ctx", {})
    if kind in _ALLOWED:
        # pydantic puts the choices in quotes.
        return _ALLOWED[kind].format(**context).replace("'", "")
    first = kind.partition("_")[0]
    if first not in _KINDS:
        return _own_words(item)
    # Where a field is a union, the place ends with the member that pydantic tried.
    return _ANY_SCALAR if item["loc"][-1] in _KINDS else _KINDS[first]


def _own_words(item: Any) -> str:
    """The message of a validator of ours."""
    return str(item["msg"]).removeprefix("Value error, ")


def _remedy(unknown: Sequence[str], known: Sequence[str]) -> str:
    if not unknown:
        return "`harness run --help` says what each takes."
    names = [name.replace("-", "_") for name in unknown]
    near = [match for name in names for match in get_close_matches(name, known, n=1)]
    if near:
        return f"Did you mean {', '.join(near)}?"
    return f"The keys are: {', '.join(sorted(known))}."
