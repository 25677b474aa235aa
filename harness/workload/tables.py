"""One table: a .csv or .parquet file with the columns `label` and `split`, and numbers in the rest.

A column of numbers gives one number of each vector. A column of lists gives several, as many in
each row: in Parquet a list, in CSV its text as JSON (`[0.5, 1]`), as pandas writes it.

Tables are often wide, with a column for each number. So columns are taken one after another: to
look one up by its name costs a step for each of the others.
"""

from __future__ import annotations

import codecs
import json
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from csv import Error as CsvError
from csv import reader as csv_reader
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from harness.errors import DataError
from harness.workload.reading import Part, check_plain_file, check_room, fault
from harness.workload.row_numbers import are_whole, has_row_name

if TYPE_CHECKING:
    import pyarrow

_Block: TypeAlias = NDArray[Any]
"""The numbers (n, k) of one column."""

_TABLE_REMEDY = "Give a table of a `label` column, a `split` column (train or test) and numbers."
_CSV_REMEDY = (
    f"{_TABLE_REMEDY} Write it as UTF-8, with commas, semicolons or tabs as separators and no "
    "spaces behind them, and as many values in each row as the first line has names."
)
_PARQUET_REMEDY = f"Write the file again. {_TABLE_REMEDY}"
_NUMBERS_REMEDY = (
    "Leave out columns that hold no numbers. Write numbers with a decimal point, not a comma, and "
    "lists as [0.5, 1]."
)
_INDEX_REMEDY = (
    "Write the table without its index (in pandas: index=False) and without a separator at the end "
    "of each line. If the column is part of the embedding, give it another name."
)
_NEEDED = ("label", "split")
_SEPARATORS = (",", ";", "\t")
_SHOWN = 40  # letters of a text in a message


def read_table(path: Path) -> tuple[Part, Part]:
    from pyarrow import ArrowException

    size = check_plain_file(path)
    is_csv = path.suffix.lower() == ".csv"
    try:
        return _read_parts(path, _read_csv(path, size) if is_csv else _read_parquet(path, size))
    except (OSError, ValueError, OverflowError, MemoryError, ArrowException) as error:
        raise fault(path, error, _CSV_REMEDY if is_csv else _PARQUET_REMEDY) from error


def _read_csv(path: Path, size: int) -> pyarrow.Table:
    from pyarrow import csv, string

    check_room(path, size, size)
    separator = _find_separator(path)
    return csv.read_csv(
        path,
        # A row may be longer than any block, whose size pyarrow has in 32 bits; and only a single
        # thread can count the rows.
        read_options=csv.ReadOptions(block_size=min(size + 1, 2**31 - 1), use_threads=False),
        parse_options=csv.ParseOptions(delimiter=separator),
        # typed, so that a class `001` does not become `1`
        convert_options=csv.ConvertOptions(column_types={"label": string(), "split": string()}),
    )


def _find_separator(path: Path) -> str:
    """The character that separates `label` and `split` from the other names in the first line."""
    with path.open("rb") as stream:
        if stream.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
            raise fault(path, "this is UTF-16, not UTF-8", _CSV_REMEDY)
    names = {separator: _first_names(path, separator) for separator in _SEPARATORS}
    separator = max(names, key=lambda key: len(set(_NEEDED) & set(names[key])))
    missing = [name for name in _NEEDED if name not in names[separator]]
    if missing:
        alike = [name for name in names[separator] if name.strip().lower() in missing]
        shown = ", ".join(repr(name[:_SHOWN]) for name in alike or names[separator][:3])
        raise fault(
            path,
            f"no column named {' or '.join(missing)} in the first line, which with {separator!r} "
            f"as separator has {shown or 'no names'}",
            _CSV_REMEDY,
        )
    return separator


def _first_names(path: Path, separator: str) -> list[str]:
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as stream:
        try:
            # Empty lines in front are left out, as pyarrow does.
            return next(filter(None, csv_reader(stream, delimiter=separator)), [])
        except CsvError:  # a name that is longer than 131,072 characters
            return []


def _read_parquet(path: Path, size: int) -> pyarrow.Table:
    from pyarrow import parquet

    with parquet.ParquetFile(path) as file:
        groups = [file.metadata.row_group(at) for at in range(file.metadata.num_row_groups)]
        counts = (
            group.column(at).num_values for group in groups for at in range(group.num_columns)
        )
        check_room(path, 8 * sum(counts), size)  # bytes: no number takes more
        return file.read()


def _read_parts(path: Path, table: pyarrow.Table) -> tuple[Part, Part]:
    names = table.column_names
    _check_names(path, names, _index_names(table))
    if not len(table):
        raise fault(path, "no rows", _TABLE_REMEDY)
    columns = dict(zip(names, table.itercolumns(), strict=True))
    labels, splits = (_texts(path, name, columns.pop(name)) for name in _NEEDED)
    for row, split in enumerate(splits):
        if split not in ("train", "test"):
            raise fault(f"{path}: data row {row + 1}", f"split is {split!r}", _TABLE_REMEDY)
    blocks = {name: _read_block(path, name, column) for name, column in columns.items()}
    X = _side_by_side(list(blocks.values()), len(splits))
    places = [
        f"column {name}" if block.ndim == 1 else f"column {name}[{at}]"
        for name, block in blocks.items()
        for at in range(_width(block))
    ]

    def part(split: str) -> Part:
        rows = [row for row, name in enumerate(splits) if name == split]
        return Part(
            X[rows],
            [labels[row] for row in rows],
            lambda row, column: f"{path}: data row {rows[row] + 1}, {places[column]}",
            lambda column: f"{path}: {places[column]}",
        )

    return part("train"), part("test")


def _index_names(table: pyarrow.Table) -> set[str]:
    """The columns that were the row index of the pandas table that was written."""
    with suppress(ValueError):  # what is not well said there says nothing
        match table.schema.pandas_metadata:
            case {"index_columns": [*columns]}:
                return {name for name in columns if isinstance(name, str)} - set(_NEEDED)
    return set()


def _check_names(path: Path, names: Sequence[str], index: set[str]) -> None:
    counts = Counter(names)
    for name in _NEEDED:
        if counts[name] != 1:
            raise fault(path, f"{counts[name] or 'no'} column named {name}", _TABLE_REMEDY)
    for name in names:
        # `__index_level_0__` is how pyarrow calls an index of pandas without a name.
        if not name.strip() or name in index or name.startswith("__index_level_"):
            raise _row_index(path, name)
        if counts[name] != 1:
            raise fault(path, f"column {name} occurs twice", "Name each column once.")


def _row_index(path: Path, name: str) -> DataError:
    return fault(path, f"column {name!r} looks like a row index", _INDEX_REMEDY)


def _texts(path: Path, name: str, column: pyarrow.ChunkedArray) -> list[str]:
    from pyarrow import string, types

    if types.is_floating(column.type) or types.is_nested(column.type):
        raise fault(
            path, f"column {name} is {column.type}, not text or whole numbers", _TABLE_REMEDY
        )
    texts: list[str | None] = column.cast(string()).to_pylist()
    if None in texts:
        raise fault(f"{path}: data row {texts.index(None) + 1}", f"no {name}", _TABLE_REMEDY)
    return [text for text in texts if text is not None]


def _read_block(path: Path, name: str, column: pyarrow.ChunkedArray) -> _Block:
    from pyarrow import types

    kind = column.type
    if _are_numbers(kind):
        numbers: _Block = column.to_numpy()  # what is missing becomes NaN
        if has_row_name(name) and are_whole(numbers[:, None]).all():
            raise _row_index(path, name)
        return numbers
    is_list = types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
    if is_list and _are_numbers(kind.value_type):
        return _read_lists(path, name, column)
    if types.is_string(kind) or types.is_large_string(kind):
        return _read_texts(path, name, column)
    if types.is_null(kind):
        raise fault(path, f"column {name} is empty", _NUMBERS_REMEDY)
    raise fault(path, f"column {name} is {kind}, not numbers", _NUMBERS_REMEDY)


def _are_numbers(kind: pyarrow.DataType) -> bool:
    from pyarrow import types

    return bool(types.is_integer(kind) or types.is_floating(kind))


def _read_lists(path: Path, name: str, column: pyarrow.ChunkedArray) -> _Block:
    from pyarrow import compute

    lengths = compute.list_value_length(column).to_pylist()
    _check_lengths(path, name, lengths)
    numbers: _Block = compute.list_flatten(column).to_numpy()
    return numbers.reshape(len(column), -1 if numbers.size else 0)


def _read_texts(path: Path, name: str, column: pyarrow.ChunkedArray) -> _Block:
    """The lists that a column of text holds as JSON."""
    texts = column.to_pylist()
    rows: list[_Block | None] = []
    for row, text in enumerate(texts):
        try:
            rows.append(np.array(json.loads(text), dtype=np.float64) if text else None)
        except (ValueError, TypeError, OverflowError, RecursionError):
            raise _no_number(path, row, name, text) from None
    for row, numbers in enumerate(rows):
        if numbers is not None and numbers.ndim != 1:
            raise _no_number(path, row, name, texts[row])
    _check_lengths(path, name, [None if numbers is None else len(numbers) for numbers in rows])
    return np.stack([numbers for numbers in rows if numbers is not None])


def _no_number(path: Path, row: int, name: str, text: str) -> DataError:
    where = f"{path}: data row {row + 1}, column {name}"
    return fault(where, f"the text {text[:_SHOWN]!r}, not a number or a list", _NUMBERS_REMEDY)


def _check_lengths(path: Path, name: str, lengths: Sequence[int | None]) -> None:
    for row, length in enumerate(lengths):
        if length is None or length != lengths[0]:
            raise fault(
                f"{path}: data row {row + 1}, column {name}",
                "no list" if length is None else f"{length} numbers, {lengths[0]} in the first row",
                "Leave this vector out or embed it again: all vectors are of one length.",
            )


def _side_by_side(blocks: Sequence[_Block], height: int) -> NDArray[Any]:
    """All blocks as one (height, d), in a type that holds the numbers of all of them."""
    if not blocks:
        return np.empty((height, 0))
    # Not all blocks at once: numpy takes 64 at most.
    X = np.empty((height, sum(map(_width, blocks))), np.result_type(*{b.dtype for b in blocks}))
    at = 0
    for block in blocks:
        X[:, at : at + _width(block)] = block.reshape(height, _width(block))
        at += _width(block)
    return X


def _width(block: _Block) -> int:
    return 1 if block.ndim == 1 else block.shape[1]
