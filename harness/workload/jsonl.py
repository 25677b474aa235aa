"""A .jsonl file: one JSON object a line, as a table with a column for each key.

Values become columns of numbers, of lists of numbers or of texts. What is none of these stands
there as the JSON text that it was, and is refused where it is wanted.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import DataError
from harness.workload.reading import check_room, fault, is_storable

if TYPE_CHECKING:
    import pyarrow

_REMEDY = (
    'Write one JSON object a line, as UTF-8, each key once: {"label": "good", "text": "I like it."}'
)
_EXPANSION = 4  # Python's objects take so many times the bytes of their text
_LARGEST = 2**63


@dataclass(frozen=True, slots=True, eq=False)
class Lines:
    """A table, and the number of the line that each row stands in. `nested` has the columns in
    which an object or a list stands among other values, with the first row where one does."""

    table: pyarrow.Table
    numbers: Sequence[int]
    nested: Mapping[str, int]


def read_jsonl(path: Path, size: int) -> Lines:
    """Raises `DataError`."""
    import pyarrow

    check_room(path, _EXPANSION * size, size)
    columns: dict[str, list[Any]] = {}
    lines: list[int] = []
    with path.open("rb") as stream:
        for number, content in enumerate(stream, 1):
            if content.strip():
                _add(columns, _object(path, number, content), len(lines))
                lines.append(number)
    for values in columns.values():
        values.extend([None] * (len(lines) - len(values)))
    arrays = [_array(values) for values in columns.values()]
    table = pyarrow.table(arrays, names=list(columns))
    nested = {
        name: next(row for row, value in enumerate(values) if isinstance(value, dict | list))
        for (name, values), array in zip(columns.items(), arrays, strict=True)
        if pyarrow.types.is_large_string(array.type)
        and any(isinstance(value, dict | list) for value in values)
    }
    return Lines(table, lines, nested)


def _add(columns: dict[str, list[Any]], row: dict[str, Any], height: int) -> None:
    for key, value in row.items():
        column = columns.setdefault(key, [])
        column += [None] * (height - len(column))  # the lines before that lack the key
        column.append(value)


def _object(path: Path, number: int, content: bytes) -> dict[str, Any]:
    if number == 1:
        content = content.removeprefix(codecs.BOM_UTF8)
    try:
        found = json.loads(content.decode(), object_pairs_hook=_each_once)
    except UnicodeDecodeError as error:
        raise _wrong(path, number, f"not UTF-8: {error.reason} at byte {error.start}") from error
    except _TwiceError as error:
        raise _wrong(path, number, f"the key {str(error)!r} occurs twice") from error
    except (ValueError, RecursionError) as error:
        raise _wrong(path, number, f"no JSON: {error}") from error
    if not isinstance(found, dict):
        raise _wrong(path, number, f"not an object, but {type(found).__name__}")
    for text in (*found, *found.values()):
        if isinstance(text, str) and not is_storable(text):
            raise _wrong(path, number, "half a character, which UTF-8 cannot write")
    return found


class _TwiceError(Exception):
    """With the key that an object has twice."""


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise _TwiceError(twice)
    return found


def _wrong(path: Path, number: int, what: str) -> DataError:
    return fault(f"{path}: line {number}", what, _REMEDY)


def _array(values: Sequence[Any]) -> pyarrow.Array:
    import pyarrow

    # Types are compared, not instances: True would be a number.
    kinds = {type(value) for value in values} - {type(None)}
    if not kinds:
        return pyarrow.nulls(len(values))
    if kinds == {int} and all(value is None or abs(value) < _LARGEST for value in values):
        return pyarrow.array(values, pyarrow.int64())
    if kinds <= {int, float}:
        return pyarrow.array([_as_float(value) for value in values], pyarrow.float64())
    if kinds == {list} and all(value is None or _are_numbers(value) for value in values):
        rows = [None if value is None else list(map(_as_float, value)) for value in values]
        return pyarrow.array(rows, pyarrow.list_(pyarrow.float64()))
    return pyarrow.array([_as_text(value) for value in values], pyarrow.large_string())


def _are_numbers(values: list[Any]) -> bool:
    return {type(value) for value in values} <= {int, float}


def _as_float(value: float | None) -> float | None:
    try:
        return None if value is None else float(value)
    except OverflowError:
        return float("inf")  # refused with its place, where numbers are wanted


def _as_text(value: Any) -> str | None:
    if value is None:
        return None
    return value if isinstance(value, str) else json.dumps(value)
