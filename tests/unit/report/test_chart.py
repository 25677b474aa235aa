from __future__ import annotations

import pytest
from rich.cells import cell_len

from harness.report.chart import LINES, Mark, chart, curve_chart
from harness.report.text import number

VALUES = [10.0, 11.0, 10.5, 20.0, 21.0]


@pytest.mark.parametrize("width", [30, 80, 140])
@pytest.mark.parametrize("ascii_only", [False, True])
def test_a_chart_is_as_large_as_it_was_wanted(width: int, ascii_only: bool) -> None:
    lines = chart(VALUES, [3], "tokens/s", number, width, ascii_only).splitlines()
    assert len(lines) == LINES
    assert {cell_len(line) for line in lines} == {width}


def test_a_chart_is_the_same_whatever_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = chart(VALUES, [3], "tokens/s", number, 120, ascii_only=False)
    monkeypatch.setenv("COLUMNS", "20")
    monkeypatch.setenv("LINES", "5")
    assert chart(VALUES, [3], "tokens/s", number, 120, ascii_only=False) == drawn


def test_points_levels_and_breaks_are_there() -> None:
    drawn = chart(VALUES, [3], "tokens/s", number, 80, ascii_only=False)
    assert drawn.count("•") == len(VALUES)
    assert "┊" in drawn
    assert "─•──" in drawn
    assert "\x1b" not in drawn
    assert drawn.splitlines()[1].startswith("21.0┤")
    assert drawn.splitlines()[-1].split() == ["tokens/s", "run", "number"]
    assert drawn.splitlines()[-2].split() == ["1", "2", "3", "4", "5"]
    assert "┊" not in chart(VALUES, [], "tokens/s", number, 80, ascii_only=False)


def test_a_terminal_of_few_characters_gets_few() -> None:
    drawn = chart(VALUES, [3], "tokens/s", number, 80, ascii_only=True)
    assert drawn.isascii()
    assert drawn.count("*") == len(VALUES)


@pytest.mark.parametrize("values", [[5.0, 5.0, 5.0], [0.0] * 4])
def test_values_that_are_all_the_same_have_a_chart(values: list[float]) -> None:
    drawn = chart(values, [], "s", number, 60, ascii_only=True)
    assert drawn.count("*") == len(values)
    assert number(values[0]) in drawn


@pytest.mark.parametrize("width", [60, 80, 140])
def test_a_curve_has_points_intervals_baseline_and_where_it_stops(width: int) -> None:
    marks = [
        Mark(name, value, value - 0.1, value + 0.1, beside)
        for name, value, beside in (("1", 0.5, None), ("2", 0.7, 0.4), ("max", 0.72, 0.45))
    ]
    drawn = curve_chart(marks, 1, ("examples", "accuracy"), "{:.2f}".format, width, False)
    assert {cell_len(line) for line in drawn.splitlines()} == {width}
    assert (drawn.count("•"), drawn.count("┊") > 0) == (3, True)
    assert "┊" not in curve_chart(marks, None, ("examples", "accuracy"), str, width, False)
    assert drawn.splitlines()[-2].split() == ["1", "2", "max"]
    below = [line for line in drawn.splitlines()[:-2] if "x" in line]
    assert len(below) == 2
    plain = curve_chart(marks, 1, ("examples", "accuracy"), str, width, True)
    assert plain.isascii()
