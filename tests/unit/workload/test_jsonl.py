"""JSON lines: columns of their keys, and what is wrong with a line, by its number."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.errors import DataError
from harness.workload.jsonl import read_jsonl


def write(folder: Path, *lines: str | bytes) -> Path:
    path = folder / "data.jsonl"
    path.write_bytes(
        b"\n".join(line if isinstance(line, bytes) else line.encode() for line in lines)
    )
    return path


def read(path: Path) -> dict[str, tuple[str, list[object]]]:
    table = read_jsonl(path, path.stat().st_size).table
    return {
        name: (str(column.type), column.to_pylist())
        for name, column in zip(table.column_names, table.itercolumns(), strict=True)
    }


def test_values_become_columns(tmp_path: Path) -> None:
    rows = [
        {"n": 1, "x": 1, "list": [1, 0.5], "text": "a", "mixed": 1, "flag": True},
        {"n": 2, "x": 0.5, "list": [], "text": None, "mixed": "b", "late": "c"},
    ]
    assert read(
        write(tmp_path, b"\xef\xbb\xbf" + json.dumps(rows[0]).encode(), "", json.dumps(rows[1]))
    ) == {
        "n": ("int64", [1, 2]),
        "x": ("double", [1.0, 0.5]),
        "list": ("list<item: double>", [[1.0, 0.5], []]),
        "text": ("large_string", ["a", None]),
        "mixed": ("large_string", ["1", "b"]),
        "flag": ("large_string", ["true", None]),
        "late": ("large_string", [None, "c"]),
    }


def test_rows_know_their_lines_and_what_is_nested(tmp_path: Path) -> None:
    path = write(tmp_path, '{"a": "x"}', "  ", '{"a": {"b": 1}}', '{"a": ["c"]}')
    found = read_jsonl(path, path.stat().st_size)
    assert list(found.numbers) == [1, 3, 4]
    assert found.nested == {"a": 1}


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("[1]", "not an object, but list"),
        ("3", "not an object, but int"),
        ("{", "no JSON: Expecting property name"),
        ('{"a": 1} {"a": 2}', "no JSON: Extra data"),
        ('{"a": 1, "a": 2}', "the key 'a' occurs twice"),
        ('{"b": {"a": 1, "a": 2}}', "the key 'a' occurs twice"),
        (b'{"a": "\xff"}', "not UTF-8: invalid start byte at byte 7"),
        (r'{"a": "\ud800"}', "half a character"),
        (r'{"\ud800": 1}', "half a character"),
        ('{"a": ' + "[" * 100_000, "no JSON: maximum recursion depth"),
        ('{"a": ' + "9" * 5_000 + "}", "no JSON: Exceeds the limit"),
    ],
    ids=lambda value: str(value)[:12],
)
def test_a_wrong_line_is_named(tmp_path: Path, line: str | bytes, what: str) -> None:
    path = write(tmp_path, '{"a": "x"}', line)
    with pytest.raises(DataError) as caught:
        read_jsonl(path, path.stat().st_size)
    assert f"{path}: line 2: {what}" in str(caught.value)
    assert "one JSON object a line" in caught.value.remedy
