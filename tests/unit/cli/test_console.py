from __future__ import annotations

import pytest
from rich.console import Group
from rich.text import Text

from harness.cli.console import Target, give
from harness.report.formats import Answer


def answer(rows: int) -> Answer:
    short = Text("first is ahead")
    return Answer(
        Group(short, *(Text(f"row {row}") for row in range(rows))), {}, [], in_short=short
    )


@pytest.mark.parametrize(("rows", "times"), [(10, 1), (40, 2)])
def test_an_answer_longer_than_the_terminal_ends_as_it_began(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], rows: int, times: int
) -> None:
    monkeypatch.setenv("LINES", "24")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich takes what is captured for a terminal
    give(answer(rows), Target())
    lines = capsys.readouterr().out.splitlines()
    assert lines.count("first is ahead") == times
    assert lines[-1] == ("first is ahead" if times == 2 else f"row {rows - 1}")


def test_an_answer_in_a_pipe_is_there_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    give(answer(100), Target())
    assert capsys.readouterr().out.splitlines().count("first is ahead") == 1


def test_a_command_longer_than_the_terminal_is_not_broken(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from harness.report.text import unbroken

    monkeypatch.setenv("COLUMNS", "80")
    line = "harness run --resume a --results " + "some/where/" * 20
    give(Answer(Group(unbroken(line)), {}, []), Target())
    assert line in capsys.readouterr().out
