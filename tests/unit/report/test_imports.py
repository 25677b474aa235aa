from __future__ import annotations

import io
import json
from typing import Any

import pytest
from rich.console import Console, RenderableType

from harness.imports.records import Figure, Imported, ImportRow, import_json
from harness.report.imports import digits, import_details, imports_table
from harness.report.text import NOTHING

ACCURACY = Figure(metric="accuracy", unit="share", value=0.625, stderr=0.0342, count=200)
SPEED = Figure(
    metric="prefill_tokens_per_second", unit="tokens/s", value=12345.6, samples=(12345.0, 12346.2)
)


def row(**changes: Any) -> ImportRow:
    told = {
        "tool": "lm-eval",
        "tool_version": "0.4.9",
        "engine": "hf",
        "model": "org/model",
        "test": "some_task",
        "figures": (ACCURACY, SPEED),
        "conditions": {"n-shot": "5", "device": "cpu"},
    }
    imported = Imported.model_validate({**told, **changes})
    created = "2026-01-02T03:04:05+00:00"
    return ImportRow("import-0123456789", created, "mine", "results.json", "0" * 64, imported)


def printed(renderable: RenderableType, width: int = 80) -> str:
    file = io.StringIO()
    Console(file=file, width=width).print(renderable)
    return file.getvalue()


@pytest.mark.parametrize("width", [80, 140])
def test_the_list_has_the_first_figure_whole(width: int) -> None:
    text = printed(imports_table([row(), row(figures=(SPEED,))]), width)
    for word in ("import-0123456789", "mine: some_task", "lm-eval, hf", "org/model"):
        assert word in text
    assert "0.625, and 1 more" in text
    assert "prefill_tokens_per_second" in text
    assert max(map(len, text.splitlines())) <= width


def test_the_details_have_every_figure_and_where_they_come_from() -> None:
    text = printed(import_details(row()), 100)
    cells = [line.split() for line in text.splitlines()]
    assert ["accuracy", "0.625", "share", "0.0342", "200"] in cells
    assert ["prefill_tokens_per_second", "12,346", "tokens/s", NOTHING, "2"] in cells
    for words in ("lm-eval 0.4.9", "results.json, SHA-256", "n-shot: 5; device: cpu"):
        assert words in text
    assert "docs/IMPORT.md" in text


def test_what_was_not_told_is_a_dash() -> None:
    text = printed(import_details(row(engine="", model="", conditions={}, tool_version="")))
    assert f"engine: {NOTHING}" in text
    assert f"model: {NOTHING}" in text


def test_a_mock_is_marked() -> None:
    mock = row(is_mock=True)
    assert "hf MOCK" in printed(imports_table([mock]))
    assert "hf MOCK" in printed(import_details(mock))
    assert import_json(mock)["is_mock"] is True


def test_words_of_a_file_do_not_drive_the_terminal() -> None:
    bad = row(test="[red]x[/]\x1b[2J\n", conditions={"a\x1b": "\x07b"}, model="m\x1b]0;t\x07")
    for text in (printed(imports_table([bad])), printed(import_details(bad))):
        assert "[red]x[/][2J" in text
        assert "\x1b" not in text
        assert "\x07" not in text


def test_json_is_the_whole_row() -> None:
    told = json.loads(json.dumps(import_json(row())))
    assert (told["import_id"], told["name"]) == ("import-0123456789", "mine")
    assert told["figures"][1]["samples"] == [12345.0, 12346.2]
    assert told["conditions"] == {"n-shot": "5", "device": "cpu"}


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (0.12345, "0.1235"), (12.345, "12.35"), (999.96, "1000"), (-12345.6, "-12,346")],
)
def test_digits(value: float, text: str) -> None:
    assert digits(value) == text
