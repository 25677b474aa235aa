from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, get_type_hints

import pytest
from typer.models import OptionInfo

import harness.bench.timing
from harness.bench.rows import Row
from harness.bench.timing import Plan
from harness.cli.bench import Format, bench, parse_numbers
from harness.cli.order import ENGINE_FLAGS
from harness.cli.run import run
from harness.errors import EngineError, UsageError
from tests.unit.report.test_bench import ROWS

SHARED = {"backend", "model", "timeout_seconds", "engine_option", "quiet", *ENGINE_FLAGS}


def options_of(command: Any) -> dict[str, OptionInfo]:
    hints = get_type_hints(command, include_extras=True)
    return {name: hint.__metadata__[0] for name, hint in hints.items() if name != "return"}


def test_flags_of_engines_are_those_of_run() -> None:
    ours, of_run = options_of(bench), options_of(run)
    assert all(ours[name] is of_run[name] for name in SHARED)


@pytest.mark.parametrize("field", ["prompt_tokens", "generate_tokens", "depth", "batch"])
def test_help_tells_the_default_of_the_plan(field: str) -> None:
    [default] = getattr(Plan(), field)
    assert str(options_of(bench)[field].help).endswith(f"Default: {default}.")


def test_every_flag_has_a_help() -> None:
    assert all(option.help for option in options_of(bench).values())


@pytest.mark.parametrize(
    ("texts", "numbers"),
    [(["512"], (512,)), (["0, 16", "8"], (0, 16, 8)), (["4,4"], (4, 4))],
)
def test_numbers_come_by_commas_and_by_repeating(texts: list[str], numbers: tuple[int]) -> None:
    assert parse_numbers(texts, "--depth", minimum=0) == numbers


@pytest.mark.parametrize("text", ["", "1,", "x", "-1", "1.5", "0", "²"])
def test_a_wrong_number_names_its_flag(text: str) -> None:
    with pytest.raises(UsageError, match=r"--batch .* is no list of numbers of 1 or more"):
        parse_numbers([text], "--batch", minimum=1)


@pytest.mark.parametrize(
    ("ending", "said"),
    [(SystemExit(130), "Interrupted. Rows that were finished: 1.\n"), (EngineError("lost"), "")],
)
def test_however_it_ends_what_is_finished_is_printed(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    ending: BaseException,
    said: str,
) -> None:
    def ended(*_: object) -> Iterator[Row]:
        yield ROWS[0]
        raise ending

    monkeypatch.setattr(harness.bench.timing, "bench", ended)
    with pytest.raises(type(ending)):
        bench(output=Format.JSON)
    out, err = capsys.readouterr()
    assert [row["test"] for row in json.loads(out)] == [ROWS[0].test.name]
    assert err == said
