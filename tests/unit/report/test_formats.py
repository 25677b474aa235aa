from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest
from rich.console import Console, Group
from rich.text import Text

from harness.record import Estimate, Record
from harness.report.chart import Drawing
from harness.report.formats import JSON_VERSION, Answer, as_csv, as_json, as_markdown, flat
from harness.report.table import simple_table
from harness.report.text import lines


class Inner(Record):
    low: float
    names: list[str]


class Outer(Record):
    name: str
    inner: Inner | None
    share: Estimate | None
    figures: dict[str, int]


def answer(*parts: Any, records: list[dict[str, Any]] | None = None) -> Answer:
    return Answer(Group(*parts), {"a": [1]}, records or [])


def test_json_is_one_object_with_its_version() -> None:
    assert json.loads(as_json(answer())) == {"schema_version": JSON_VERSION, "a": [1]}


def test_no_form_names_a_home_folder() -> None:
    model = "/home/ada/models/a.gguf"
    table = simple_table(["model"], [[model]])
    found = Answer(Group(table, lines(model)), {"models": [{"file": model}]}, [{"file": model}])
    printed = io.StringIO()
    Console(file=printed, width=80).print(found.parts)
    for form in (printed.getvalue(), as_json(found), as_csv(found), as_markdown(found)):
        assert "ada" not in form
        assert "~/models/a.gguf" in form.replace("\\", "")


def test_csv_has_the_columns_of_all_records_and_reads_back() -> None:
    records: list[dict[str, Any]] = [{"a": True, "b": None}, {"a": 0.1, "c": 'x,"y"\n\x1b[2J'}]
    read = list(csv.DictReader(io.StringIO(as_csv(answer(records=records)))))
    assert read == [{"a": "true", "b": "", "c": ""}, {"a": "0.1", "b": "", "c": 'x,"y" [2J'}]


def test_csv_of_nothing_is_an_empty_line() -> None:
    assert as_csv(answer()) == "\n"


def test_markdown_has_tables_paragraphs_and_drawings() -> None:
    table = simple_table(["a\nb", "n"], [("x|y\nz", "1")], numbers=["n"])
    parts = Text("first\n*second*"), "", table, Drawing(lambda width, ascii_only: f"{width}")
    assert as_markdown(answer(Group(*parts))).split("\n\n") == [
        "first",
        r"\*second\*",
        "| a<br>b | n |\n| --- | ---: |\n| x\\|y<br>z | 1 |",
        "```\n100\n```\n",
    ]


def test_a_part_that_has_no_markdown_is_a_bug() -> None:
    with pytest.raises(TypeError, match="no Markdown for"):
        as_markdown(Answer(Group(object()), {}, []))  # type: ignore[arg-type]


def test_flat_has_the_same_paths_whatever_is_missing() -> None:
    whole = Outer(
        name="x",
        inner=Inner(low=1.0, names=["a"]),
        share=Estimate(value=0.5, low=0.4, high=0.6),
        figures={"a": 1},
    )
    bare = whole.model_copy(update={"inner": None, "share": None})
    assert flat(Outer, whole) == {
        "name": "x",
        "inner.low": 1.0,
        "share.value": 0.5,
        "share.low": 0.4,
        "share.high": 0.6,
    }
    assert list(flat(Outer, bare)) == list(flat(Outer, whole))
    assert set(flat(Outer, bare).values()) == {"x", None}
