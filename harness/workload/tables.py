"""One table: a .csv, .parquet or .jsonl file with a column of labels, and vectors or texts.

Of vectors, a column of numbers gives one number of each. A column of lists gives several, as many
in each row: in Parquet and JSONL a list, in CSV its text as JSON (`[0.5, 1]`), as pandas writes it.
Texts are one column. It is named by `--text-column`, or is the only one that is not numeric.

Tables are often wide, with a column for each number. So columns are taken one after another: to
look one up by its name costs a step for each of the others.
"""

from __future__ import annotations

import codecs
import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from csv import Error as CsvError
from csv import reader as csv_reader
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from harness.errors import DataError, UsageError
from harness.workload.jsonl import read_jsonl
from harness.workload.reading import Part, Read, Wanted, check_plain_file, check_room, fault
from harness.workload.row_numbers import are_whole, has_row_name
from harness.workload.splits import TEST_SHARE, by_content, by_name

if TYPE_CHECKING:
    import pyarrow

_Block: TypeAlias = NDArray[Any]
"""The numbers (n, k) of one column."""

LABEL, _SPLIT = "label", "split"
_TABLE_REMEDY = (
    "Give a table of a `label` column (--label-column names another), and of numbers, or of a "
    "column of texts (--text-column). A `split` column (train or test) may be there."
)
_CSV_REMEDY = (
    f"{_TABLE_REMEDY} Write it as UTF-8, with commas, semicolons or tabs as separators and no "
    "spaces behind them, and as many values in each row as the first line has names."
)
_AGAIN_REMEDY = f"Write the file again. {_TABLE_REMEDY}"
_NUMBERS_REMEDY = (
    "Leave out columns that hold no numbers, or name the column of the texts (--text-column). "
    "Write numbers with a decimal point, not a comma, and lists as [0.5, 1]."
)
_TEXTS_REMEDY = "Name the column of the texts with --text-column."
_INDEX_REMEDY = (
    "Write the table without its index (in pandas: index=False) and without a separator at the end "
    "of each line. If the column is part of the embedding, give it another name."
)
_SEPARATORS = (",", ";", "\t")
_SHOWN = 40  # letters of a text in a message
_NAMED = 10  # columns in a message
# What a number or a list of numbers looks like, also one that is written wrongly.
_NUMBERISH = re.compile(r"[\d\s.,;:eE+\-\[\]()]*|\s*[+-]?(nan|inf|infinity)\s*", re.IGNORECASE)


@dataclass(frozen=True, slots=True, eq=False)
class _Rows:
    """A table, the place of each of its rows for errors, and what is nested in JSON."""

    table: pyarrow.Table
    place: Callable[[int], str]
    nested: Mapping[str, int] = field(default_factory=dict)


def read_table(path: Path, wanted: Wanted) -> Read:
    from pyarrow import ArrowException

    size = check_plain_file(path)
    kind = path.suffix.lower()
    try:
        return _read_parts(path, _rows(path, kind, size, wanted), size, wanted)
    except (OSError, ValueError, OverflowError, MemoryError, ArrowException) as error:
        raise fault(path, error, _CSV_REMEDY if kind == ".csv" else _AGAIN_REMEDY) from error


def _rows(path: Path, kind: str, size: int, wanted: Wanted) -> _Rows:
    if kind == ".jsonl":
        found = read_jsonl(path, size)
        numbers = found.numbers
        return _Rows(found.table, lambda row: f"{path}: line {numbers[row]}", found.nested)
    table = _read_csv(path, size, wanted) if kind == ".csv" else _read_parquet(path, size)
    return _Rows(table, lambda row: f"{path}: data row {row + 1}")


def _read_csv(path: Path, size: int, wanted: Wanted) -> pyarrow.Table:
    from pyarrow import csv, string, types

    check_room(path, size, size)
    label = wanted.label_column or LABEL
    separator = _find_separator(path, wanted)
    # typed, so that a class `001` does not become `1`
    typed = dict.fromkeys(filter(None, (label, _SPLIT, wanted.text_column)), string())
    table = csv.read_csv(
        path,
        # A row may be longer than any block, whose size pyarrow has in 32 bits; and only a single
        # thread can count the rows.
        read_options=csv.ReadOptions(block_size=min(size + 1, 2**31 - 1), use_threads=False),
        parse_options=csv.ParseOptions(delimiter=separator, newlines_in_values=True),
        convert_options=csv.ConvertOptions(column_types=typed),
    )
    for one in table.schema:
        if types.is_binary(one.type):  # what pyarrow takes bytes for that are no text
            raise fault(path, f"column {one.name}: invalid UTF8 data", _CSV_REMEDY)
    return table


def _find_separator(path: Path, wanted: Wanted) -> str:
    """The character that separates the label and `split` from the other names in the first line."""
    label = wanted.label_column or LABEL
    with path.open("rb") as stream:
        if stream.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
            raise fault(path, "this is UTF-16, not UTF-8", _CSV_REMEDY)
    names = {separator: _first_names(path, separator) for separator in _SEPARATORS}
    known = {label, _SPLIT}
    separator = max(names, key=lambda key: len(known & set(names[key])))
    if label not in names[separator]:
        # The separator that is there most often is most likely meant.
        separator = max(names, key=lambda key: len(names[key]))
        if wanted.label_column is not None:
            raise _no_column("--label-column", label, path, names[separator])
        raise fault(
            path,
            f"no column named {label} in the first line, which with {separator!r} as separator has "
            f"{_listed(names[separator])}",
            _CSV_REMEDY,
        )
    return separator


def _no_column(flag: str, name: str, path: Path, names: Sequence[str]) -> UsageError:
    return UsageError(
        f"{flag} {name}: {path} has no such column; it has {_listed(names)}",
        remedy="Name one of its columns.",
    )


def _listed(names: Sequence[str]) -> str:
    """The first columns by name, as a message has them."""
    shown = ", ".join(repr(name[:_SHOWN]) for name in names[:_NAMED])
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{shown}{more}" if shown else "no names"


def _first_names(path: Path, separator: str) -> list[str]:
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as stream:
        try:
            # Empty lines in front are left out, as pyarrow does.
            return next(filter(None, csv_reader(stream, delimiter=separator)), [])
        except CsvError:  # a name that is longer than 131,072 characters
            return []


def _read_parquet(path: Path, size: int) -> pyarrow.Table:
    from pyarrow import parquet, types

    with parquet.ParquetFile(path) as file:
        groups = [file.metadata.row_group(at) for at in range(file.metadata.num_row_groups)]
        counts = (
            group.column(at).num_values for group in groups for at in range(group.num_columns)
        )
        check_room(path, 8 * sum(counts), size)  # bytes: no number takes more
        texts = [one.name for one in file.schema_arrow if types.is_string(one.type)]
    # A text that comes again is stored once. It stays so until it is known what all of them take.
    with parquet.ParquetFile(path, read_dictionary=texts) as file:
        return file.read()


def _unpacked(path: Path, name: str, column: pyarrow.ChunkedArray, size: int) -> Any:
    """The column, with each text in its own place. Raises `DataError` where that is too much."""
    from pyarrow import compute, string, types

    if not types.is_dictionary(column.type):
        return column
    needed = 0
    for chunk in column.chunks:
        lengths = compute.binary_length(chunk.dictionary).take(chunk.indices)
        needed += compute.sum(lengths.cast("int64")).as_py() or 0
    check_room(f"{path}: column {name}", needed, size)
    return column.cast(string())


def _read_parts(path: Path, rows: _Rows, size: int, wanted: Wanted) -> Read:
    table, label = rows.table, wanted.label_column or LABEL
    names = table.column_names
    _check_names(path, names, wanted)
    if not len(table):
        raise fault(path, "no rows", _TABLE_REMEDY)
    index = {name for name in _index_names(table) if name not in (label, _SPLIT)}
    columns = {
        name: _unpacked(path, name, column, size)
        for name, column in zip(names, table.itercolumns(), strict=True)
    }
    for name in (label, _SPLIT):
        if name in rows.nested:
            raise _is_nested(rows, name)
    labels = _texts(path, rows, label, columns.pop(label))
    splits = _texts(path, rows, _SPLIT, columns.pop(_SPLIT)) if _SPLIT in columns else None
    text = wanted.text_column or _find_texts(path, columns, index, rows.nested)
    if text is not None:
        whole, used = _text_part(path, rows, text, columns[text], labels)
    else:
        _check_vector_names(path, names, index)
        whole, used = _vector_part(path, rows, columns, labels), range(len(labels))
        whole = replace(whole, images=_images_of(table))
    if splits is not None and wanted.test_share is not None:
        raise UsageError(
            f"--test-share: {path} has a column split already",
            remedy="Leave the flag out, or the column.",
        )
    share = None if splits is not None else wanted.test_share or TEST_SHARE
    if splits is None:
        parts = by_content(path, whole.X, whole.labels, share or TEST_SHARE)
    else:
        parts = by_name([splits[row] for row in used], lambda row: rows.place(used[row]))
    return Read(
        _rows_of(whole, parts.train),
        _rows_of(whole, parts.test),
        text_column=text,
        test_share=share,
        unused_columns=tuple(name for name in columns if text not in (None, name)),
        unused_rows=parts.unused,
        without_text=len(labels) - len(used),
    )


def _rows_of(whole: Part, rows: Sequence[int]) -> Part:
    return Part(
        whole.X[list(rows)],
        [whole.labels[row] for row in rows],
        lambda row, column: whole.origin(rows[row], column),
        whole.column_name,
        [whole.images[row] for row in rows] if whole.images else (),
    )


def _images_of(table: pyarrow.Table) -> Sequence[str]:
    """What `harness embed` writes beside the vectors; nothing where it is anything else."""
    try:
        found = json.loads((table.schema.metadata or {}).get(b"images", b"[]"))
    except (ValueError, RecursionError):
        return ()
    is_right = isinstance(found, list) and all(isinstance(one, str) for one in found)
    return found if is_right and len(found) == len(table) else ()


def _vector_part(
    path: Path, rows: _Rows, columns: Mapping[str, pyarrow.ChunkedArray], labels: Sequence[str]
) -> Part:
    blocks = {name: _read_block(path, rows, name, column) for name, column in columns.items()}
    places = [
        f"column {name}" if block.ndim == 1 else f"column {name}[{at}]"
        for name, block in blocks.items()
        for at in range(_width(block))
    ]
    return Part(
        _side_by_side(list(blocks.values()), len(labels)),
        labels,
        lambda row, column: f"{rows.place(row)}, {places[column]}",
        lambda column: f"{path}: {places[column]}",
    )


def _text_part(
    path: Path, rows: _Rows, name: str, column: pyarrow.ChunkedArray, labels: Sequence[str]
) -> tuple[Part, Sequence[int]]:
    """The rows that have a text, and which these are."""
    if name in rows.nested:
        raise _is_nested(rows, name)
    if not _are_texts(column.type):
        raise fault(path, f"column {name} is {column.type}, not text", _TEXTS_REMEDY)
    texts: list[str | None] = column.to_pylist()
    used = [row for row, text in enumerate(texts) if text and not text.isspace()]
    X = np.empty(len(used), dtype=np.object_)
    X[:] = [texts[row] for row in used]
    part = Part(
        X,
        [labels[row] for row in used],
        lambda row, _: f"{rows.place(used[row])}, column {name}",
        lambda _: f"{path}: column {name}",
    )
    return part, used


def _find_texts(
    path: Path,
    columns: Mapping[str, pyarrow.ChunkedArray],
    index: set[str],
    nested: Mapping[str, int],
) -> str | None:
    """The only column that is not numeric, if there is one and it holds texts.

    Raises `DataError` where it is one of several.
    """
    odd = {
        name: column
        for name, column in columns.items()
        if not _is_index(name, index) and not _is_numeric(column)
    }
    texts = [name for name, one in odd.items() if _are_texts(one.type) and name not in nested]
    if len(odd) > 1 and texts:
        raise fault(
            path,
            f"{len(odd)} columns are not numeric: {_listed(list(odd))}",
            f"{_TEXTS_REMEDY} If the data are vectors, leave these columns out.",
        )
    return texts[0] if texts else None


def _is_numeric(column: pyarrow.ChunkedArray) -> bool:
    """Whether it holds numbers, lists of numbers, or for the most part texts of such, as a column
    of numbers with a fault in it does; or nothing at all."""
    from pyarrow import types

    kind = column.type
    if types.is_null(kind) or _are_numbers(kind) or _are_lists(kind):
        return True
    if not _are_texts(kind):
        return False
    texts = [text for text in column.to_pylist() if text]
    return 2 * sum(_NUMBERISH.fullmatch(text) is not None for text in texts) >= len(texts)


def _index_names(table: pyarrow.Table) -> set[str]:
    """The columns that were the row index of the pandas table that was written."""
    with suppress(ValueError):  # what is not well said there says nothing
        match table.schema.pandas_metadata:
            case {"index_columns": [*columns]}:
                return {name for name in columns if isinstance(name, str)}
    return set()


def _check_names(path: Path, names: Sequence[str], wanted: Wanted) -> None:
    counts = Counter(names)
    label, text = wanted.label_column or LABEL, wanted.text_column
    for flag, name in (("--label-column", wanted.label_column), ("--text-column", text)):
        if name is not None and not counts[name]:
            raise _no_column(flag, name, path, names)
    if text in (label, _SPLIT):
        raise UsageError(
            f"--text-column {text}: this is the column of the "
            f"{'labels' if text == label else 'splits'} in {path}",
            remedy="Name another column, or name that of the labels with --label-column.",
        )
    if not counts[label]:
        raise fault(path, f"no column named {label}; it has {_listed(names)}", _TABLE_REMEDY)
    if not counts[_SPLIT]:
        for name in names:
            if name.strip().casefold() == _SPLIT and name not in (label, text):
                raise fault(
                    path,
                    f"no column named {_SPLIT}, but one named {name!r}",
                    f"Call it {_SPLIT}, or leave it out. Write no spaces behind the separators.",
                )
    for name, count in counts.items():
        if count != 1:
            raise fault(path, f"column {name} occurs twice", "Name each column once.")


def _check_vector_names(path: Path, names: Sequence[str], index: set[str]) -> None:
    for name in names:
        if _is_index(name, index):
            raise _row_index(path, name)


def _is_index(name: str, index: set[str]) -> bool:
    # `__index_level_0__` is how pyarrow calls an index of pandas without a name.
    return not name.strip() or name in index or name.startswith("__index_level_")


def _is_nested(rows: _Rows, name: str) -> DataError:
    return fault(
        f"{rows.place(rows.nested[name])}, column {name}",
        "an object or a list, not a text",
        "Write the text itself as a string.",
    )


def _row_index(path: Path, name: str) -> DataError:
    return fault(path, f"column {name!r} looks like a row index", _INDEX_REMEDY)


def _texts(path: Path, rows: _Rows, name: str, column: pyarrow.ChunkedArray) -> list[str]:
    from pyarrow import string, types

    if types.is_floating(column.type) or types.is_nested(column.type):
        raise fault(
            path, f"column {name} is {column.type}, not text or whole numbers", _TABLE_REMEDY
        )
    texts: list[str | None] = column.cast(string()).to_pylist()
    if None in texts:
        raise fault(rows.place(texts.index(None)), f"no {name}", _TABLE_REMEDY)
    return [text for text in texts if text is not None]


def _read_block(path: Path, rows: _Rows, name: str, column: pyarrow.ChunkedArray) -> _Block:
    from pyarrow import types

    kind = column.type
    if _are_numbers(kind):
        numbers: _Block = column.to_numpy()  # what is missing becomes NaN
        if has_row_name(name) and are_whole(numbers[:, None]).all():
            raise _row_index(path, name)
        return numbers
    if _are_lists(kind):
        return _read_lists(rows, name, column)
    if _are_texts(kind):
        return _read_texts(rows, name, column)
    if types.is_null(kind):
        raise fault(path, f"column {name} is empty", _NUMBERS_REMEDY)
    raise fault(path, f"column {name} is {kind}, not numbers", _NUMBERS_REMEDY)


def _are_numbers(kind: pyarrow.DataType) -> bool:
    from pyarrow import types

    return bool(types.is_integer(kind) or types.is_floating(kind))


def _are_lists(kind: pyarrow.DataType) -> bool:
    """Of numbers."""
    from pyarrow import types

    is_list = types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
    return bool(is_list and _are_numbers(kind.value_type))


def _are_texts(kind: pyarrow.DataType) -> bool:
    from pyarrow import types

    return bool(types.is_string(kind) or types.is_large_string(kind))


def _read_lists(rows: _Rows, name: str, column: pyarrow.ChunkedArray) -> _Block:
    from pyarrow import compute

    lengths = compute.list_value_length(column).to_pylist()
    _check_lengths(rows, name, lengths)
    numbers: _Block = compute.list_flatten(column).to_numpy()
    return numbers.reshape(len(column), -1 if numbers.size else 0)


def _read_texts(rows: _Rows, name: str, column: pyarrow.ChunkedArray) -> _Block:
    """The lists that a column of text holds as JSON."""
    texts = column.to_pylist()
    blocks: list[_Block | None] = []
    for row, text in enumerate(texts):
        try:
            blocks.append(np.array(json.loads(text), dtype=np.float64) if text else None)
        except (ValueError, TypeError, OverflowError, RecursionError):
            raise _no_number(rows, row, name, text) from None
    for row, numbers in enumerate(blocks):
        if numbers is not None and numbers.ndim != 1:
            raise _no_number(rows, row, name, texts[row])
    _check_lengths(rows, name, [None if numbers is None else len(numbers) for numbers in blocks])
    return np.stack([numbers for numbers in blocks if numbers is not None])


def _no_number(rows: _Rows, row: int, name: str, text: str) -> DataError:
    where = f"{rows.place(row)}, column {name}"
    return fault(where, f"the text {text[:_SHOWN]!r}, not a number or a list", _NUMBERS_REMEDY)


def _check_lengths(rows: _Rows, name: str, lengths: Sequence[int | None]) -> None:
    for row, length in enumerate(lengths):
        if length is None or length != lengths[0]:
            raise fault(
                f"{rows.place(row)}, column {name}",
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
