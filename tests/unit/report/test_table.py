from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import pytest
from rich.console import Console, RenderableType

from harness.report.figures import MOCK_LABEL, Row, figures_of
from harness.report.formats import Answer, as_markdown
from harness.report.table import FiguresTable, Listing, simple_table
from harness.summary import Cells, RunSummary
from tests.unit.report.conftest import BASELINES

if TYPE_CHECKING:
    from tests.unit.report.conftest import Sample

WIDE, NARROW = 160, 80


def printed(what: RenderableType, width: int, terminal: bool = False) -> str:
    file = io.StringIO()
    colours: Literal["standard"] | None = "standard" if terminal else None
    Console(file=file, width=width, force_terminal=terminal, color_system=colours).print(what)
    return file.getvalue()


def table(runs: Sequence[RunSummary], width: int) -> str:
    return printed(FiguresTable([Row(run, BASELINES) for run in runs]), width)


def words(text: str) -> list[str]:
    return sorted(text.replace("─", " ").split())


def test_wide_terminal_has_a_row_an_entry(sample: Sample) -> None:
    lines = table([sample.run(), sample.mock()], WIDE).splitlines()
    assert [line.split()[0] for line in lines if line[:1].isalpha()] == [
        "entry",
        "llama-cpp",
        "mock",
        MOCK_LABEL,
    ]


def test_narrow_terminal_has_a_column_an_entry(sample: Sample) -> None:
    lines = table([sample.run(), sample.mock()], NARROW).splitlines()
    assert [line.split() for line in lines[:2]] == [["mock"], ["llama-cpp", MOCK_LABEL]]
    assert sum(line.startswith("prefill tok/s") for line in lines) == 1


def test_both_ways_tell_the_same(sample: Sample) -> None:
    runs = [sample.run()]
    wide, narrow = table(runs, WIDE), table(runs, NARROW)
    assert [word for word in words(wide) if word != "entry"] == words(narrow)


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("width", [NARROW, WIDE])
def test_every_figure_is_whole_and_within_the_terminal(
    sample: Sample, count: int, width: int
) -> None:
    runs = [sample.mock(backend=f"engine-{index}") for index in range(count)]
    text = table(runs, width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    told = words(text)
    row = Row(runs[0], BASELINES)
    for figure in figures_of([row]):
        for part in figure.cell(row):
            assert all(told.count(word) >= count for word in part.split()), part


def test_run_ids_stay_whole_in_three_columns(sample: Sample) -> None:
    rows = [Row(sample.run(), note=f"20260102-030405-000{index}") for index in range(3)]
    text = printed(FiguresTable(rows), NARROW)
    assert all(row.note in text for row in rows)


@pytest.mark.parametrize("width", [NARROW, WIDE])
def test_mock_is_named_a_mock_loudly(sample: Sample, width: int) -> None:
    rows = [Row(sample.mock(backend="innocent"))]
    assert MOCK_LABEL in printed(FiguresTable(rows), width)
    loud = printed(FiguresTable(rows), width, terminal=True)
    assert f"\x1b[1;7m{MOCK_LABEL}" in loud


@pytest.mark.parametrize("width", [NARROW, WIDE])
def test_failed_cells_are_told_loudly_and_only_where_there_are(sample: Sample, width: int) -> None:
    failing = sample.run(cells=Cells(done=12, failed=1200))
    assert "cells failed" not in table([sample.run()], width)
    assert "1,200 cells failed" in table([failing], width)
    loud = printed(FiguresTable([Row(failing)]), width, terminal=True)
    assert "\x1b[1;7m1,200 cells failed" in loud


@pytest.mark.parametrize("width", [NARROW, WIDE])
def test_names_are_neither_markup_nor_commands(sample: Sample, width: int) -> None:
    run = sample.run(backend="[red]a[/]", engine_version="\x1b]0;b\x07", weights="[/]")
    text = table([run], width)
    assert "[red]a[/]" in text
    assert "]0;b" in text
    assert "\x1b" not in text
    assert "\x07" not in text


def ahead(run: RunSummary, *metrics: str) -> Row:
    return Row(run, BASELINES, ahead=metrics)


@pytest.mark.parametrize("width", [NARROW, WIDE])
def test_what_is_better_than_all_others_is_marked_with_and_without_colour(
    sample: Sample, width: int
) -> None:
    rows = [ahead(sample.run(), "prefill_tokens_per_second"), ahead(sample.mock())]
    text = printed(FiguresTable(rows), width)
    assert text.count("1,234 *") == 1
    assert text.splitlines()[-1].startswith("* better than every other entry")
    assert "\x1b[1;32m1,234 *" in printed(FiguresTable(rows), width, terminal=True)
    assert "*" not in printed(FiguresTable([ahead(sample.run()), ahead(sample.mock())]), width)


def test_a_marked_cell_has_its_details(sample: Sample) -> None:
    text = printed(FiguresTable([ahead(sample.run(), "accuracy")]), NARROW)
    assert "0.63 * (0.53 to 0.73) soft" in text


def test_columns_that_do_not_fit_stand_below_one_another(sample: Sample) -> None:
    names = [f"cache-of-type-number-{index}" for index in range(10)]
    text = printed(FiguresTable([Row(sample.run(entry=name)) for name in names]), NARROW)
    assert max(map(len, text.splitlines())) <= NARROW
    assert all(name in text for name in names)
    assert text.count("prefill tok/s") == 5


def test_simple_table_keeps_line_feeds_and_folds_what_is_long() -> None:
    text = printed(simple_table(["one", "two"], [("a\nb", "x" * 30)]), 20)
    rows = [line.split() for line in text.splitlines()[2:]]
    assert [row[0] for row in rows[:2]] == ["a", "b"]
    assert text.count("x") == 30


@pytest.mark.parametrize("first", ["instruction", "x"])
def test_no_word_is_broken_where_titles_of_more_lines_help(first: str) -> None:
    cells = ("x" * 11, "y" * 10, "z" * 10)
    titles = (first, "examples that fit", "left over")
    text = printed(simple_table(titles, [cells], numbers=titles[1:]), 36)
    assert [line.split() for line in text.splitlines()[:2]] == [
        ["examples"],
        [first, "that", "fit", "left", "over"],
    ]
    assert text.splitlines()[-1].split() == list(cells)
    assert max(map(len, text.splitlines())) <= 36


def test_the_lines_of_a_listing_are_whole_and_in_columns() -> None:
    path, command = "/a/path/" + "long/" * 30 + "file", "pip install " + "x " * 60 + "y"
    listing = Listing(
        ("name", "MiB", "files"),
        [("one", "1,234", f"{path}\n{command}"), ("日本", "2", "b")],
        ["MiB"],
    )
    file = io.StringIO()
    Console(file=file, width=NARROW).print(listing, crop=False)
    assert file.getvalue().splitlines() == [
        "name    MiB  files",
        f"one   1,234  {path}",
        f"             {command}",
        "日本      2  b",
    ]
    assert as_markdown(Answer(listing, {}, [])).startswith("| name | MiB | files |\n")


def test_a_listing_is_of_untrusted_text() -> None:
    said = printed(Listing(("a", "b"), [("x\x1b[31m", "[bold]y\x1b]0;z\x07")]), WIDE)
    assert said.splitlines()[1].split() == ["x[31m", "[bold]y]0;z"]
