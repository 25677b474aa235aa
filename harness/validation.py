"""Records of what a user wrote, and errors that say what to write instead.

pydantic checks; its own words are about Python, and are not shown. What to write is said by the
definition of the field, whatever is wrong: its kind, and its bounds.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Mapping, Sequence
from difflib import get_close_matches
from types import NoneType
from typing import Any, Literal, TypeVar, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from harness.errors import UsageError

_Model = TypeVar("_Model", bound=BaseModel)

_HELP = "`harness run --help` says what each takes."


def validated(
    model: type[_Model],
    table: Mapping[str, object],
    where: str,
    flags: Collection[str] = (),
    more_keys: Collection[str] = (),
    remedy: str = _HELP,
    *,
    strict: bool = False,
) -> _Model:
    """A record of a mapping, whose `flags` came from the command line and all else from `where`.

    `more_keys` may stand there, too, beside the fields of the record. Raises `UsageError` that
    names every key that is wrong; `remedy` where no key is near to one. `strict`: `true` is no
    number, and a text is none either.
    """
    try:
        return model.model_validate(dict(table), strict=strict)
    except ValidationError as error:
        # Of a union, pydantic has an error for each member. The first is enough: going backwards,
        # it is the one that stays.
        wrong = {_place(item["loc"]): item for item in reversed(error.errors())}
        ordered = dict(reversed(wrong.items()))
        said = [_explained(place, item, model, where, flags) for place, item in ordered.items()]
        near = [
            nearest(place[-1].replace("-", "_"), [*model.model_fields, *more_keys])
            for place, item in ordered.items()
            if item["type"] == "extra_forbidden"
        ]
        near += [
            nearest(place[0], _tables(model))
            for place, item in ordered.items()
            if len(place) == 1 and isinstance(item["input"], dict) and item["type"] != "missing"
        ]
        meant = [
            f"[{name}]" if name in _tables(model) else name for name in dict.fromkeys(near) if name
        ]
        raise UsageError(
            "; ".join(said), remedy=f"Did you mean {', '.join(meant)}?" if meant else remedy
        ) from error


def nearest(name: str, known: Collection[str]) -> str | None:
    """The known name that was probably meant; `None` where none is near."""
    return next(iter(get_close_matches(name, known, n=1)), None)


_TABLES_OF_TABLES = ("backends", "entries", "models")


def _place(location: tuple[int | str, ...]) -> tuple[str, ...]:
    """The key, and the keys in its tables; what stands behind them is pydantic's own."""
    depth = 3 if location[:1] and location[0] in _TABLES_OF_TABLES else 2
    return tuple(map(str, location[:depth]))


def _explained(
    place: tuple[str, ...], item: Any, model: type[BaseModel], where: str, flags: Collection[str]
) -> str:
    if not place:
        return f"{where}: {_own_words(item)}"
    field = model.model_fields.get(place[0])
    if field is not None and _kind(field) is not dict:
        place = place[:1]  # behind it stands the place in a list
    name = f"{where}: {'.'.join(place)}"
    if field is None or item["type"] == "extra_forbidden":
        what = f"table [{place[-1]}]" if isinstance(item["input"], dict) else f"key {place[-1]}"
        return f"{where}: there is no {what}"
    if item["type"] == "missing":
        return f"{name} is missing"
    if place[0] in flags:
        name = f"--{place[0].replace('_', '-')}"
    if item["type"] == "value_error" and not _own_words(item).startswith("use "):
        return f"{name}: {_own_words(item)}"
    return f"{name} is {_written(item['input'])}: {_to_use(place, item, field)}"


def _to_use(place: tuple[str, ...], item: Any, field: FieldInfo) -> str:
    if item["type"] == "value_error":
        return _own_words(item)
    if len(place) == 1:
        return f"use {allowed(field)}"
    if item["type"] == "dict_type":
        return "use a table"
    if place[0] == "models" or place[2:] in (("backend",), ("model",)):
        return "use text"
    return (
        "use a number, text, a list of texts, true or false"  # what an option of an engine may be
    )


def allowed(field: FieldInfo) -> str:
    """What may be written for a field: `a whole number from 1 to 1000`."""
    kind = _kind(field)
    if kind is Literal:
        return f"one of: {', '.join(map(str, _choices(field)))}"
    if kind in (int, float):
        return ("a whole number" if kind is int else "a number") + _bounds(field, kind)
    return {bool: "true or false", dict: "a table", tuple: "text, or a list of texts"}.get(
        kind, "text"
    )


def _kind(field: FieldInfo) -> Any:
    """`Literal` where there are choices."""
    annotation: Any = field.annotation
    if NoneType in get_args(annotation):
        annotation = next(one for one in get_args(annotation) if one is not NoneType)
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return Literal
    return get_origin(annotation) or annotation


def _choices(field: FieldInfo) -> Sequence[Any]:
    annotation: Any = field.annotation
    return get_args(annotation) or tuple(annotation)


def _bounds(field: FieldInfo, kind: type) -> str:
    found = {
        name: getattr(one, name)
        for one in field.metadata
        for name in ("ge", "gt", "le", "lt")
        if getattr(one, name, None) is not None
    }
    if kind is int and "lt" in found:
        found["le"] = found["lt"] - 1
    if "ge" in found and "le" in found:
        return f" from {found['ge']} to {found['le']}"
    if "gt" in found:
        most = f", at most {found['le']}" if "le" in found else ""
        below = f", below {found['lt']}" if "lt" in found else ""
        return f" above {found['gt']}{most}{below}"
    return f" of {found['ge']} or more" if "ge" in found else ""


_LONGEST = 60


def _written(value: object) -> str:
    """A value as a TOML file has it, if it is short."""
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list | tuple):
        return "a list" if value else "an empty list"
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    if not isinstance(value, bool | int | float | str):
        text = str(value)  # TOML has dates and times
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def _own_words(item: Any) -> str:
    """The message of a validator of ours."""
    return str(item["msg"]).removeprefix("Value error, ")


def _tables(model: type[BaseModel]) -> list[str]:
    return [name for name, field in model.model_fields.items() if _kind(field) is dict]
