from __future__ import annotations

from pathlib import Path
from typing import get_type_hints

import pytest
from typer.models import OptionInfo

from harness.cli.order import ENGINE_FLAGS, Output
from harness.cli.run import _tell_interrupted, run
from harness.errors import EngineError
from harness.pipeline.run import check_answered
from harness.spec import RunSpec
from harness.summary import Caveat, CaveatKind, Cells, RunSummary, Summary
from tests.unit.report.conftest import FEW_CAVEAT, RUN

TABLES = {"engine", "backends", "models"}
OUTPUT = {"results", "json", "quiet"}
BESIDE = {"config", "resume", "engine_option", "return"}


@pytest.fixture(scope="module")
def options() -> dict[str, OptionInfo]:
    hints = get_type_hints(run, include_extras=True)
    return {name: hint.__metadata__[0] for name, hint in hints.items() if name != "return"}


def test_every_field_of_a_spec_is_a_flag(options: dict[str, OptionInfo]) -> None:
    fields = set(RunSpec.model_fields) - TABLES
    assert set(options) == fields | OUTPUT | (BESIDE - {"return"}) | set(ENGINE_FLAGS)


def test_every_flag_has_a_help(options: dict[str, OptionInfo]) -> None:
    assert all(option.help for option in options.values())


def told(field: str) -> str:
    match value := getattr(RunSpec(), field):
        case None:
            return {"shots": "as many as fit", "prompts_from": "none"}[field]
        case bool():
            return "on" if value else "off"
        case float():
            return f"{value:g}"
        case tuple():
            return " ".join(value)
    return str(value)


@pytest.mark.parametrize("field", sorted(set(RunSpec.model_fields) - TABLES))
def test_help_tells_the_default_of_the_spec(options: dict[str, OptionInfo], field: str) -> None:
    assert options[field].help is not None
    assert str(options[field].help).endswith(f"Default: {told(field)}.")


def test_help_tells_the_default_folder(options: dict[str, OptionInfo]) -> None:
    assert str(options["results"].help).endswith(f"Default: {Output().results}.")


FAILED = Caveat(kind=CaveatKind.CELLS_FAILED, message="24 cells failed: 24 x x.", advice="Look.")
LOST = RUN.model_copy(update={"cells": Cells(done=0, failed=24), "caveats": [FEW_CAVEAT, FAILED]})


def summary(*runs: RunSummary) -> Summary:
    return Summary(run_id="a", created="", wall_seconds=None, harness_seconds=None, runs=list(runs))


def test_a_run_with_any_reply_is_a_run() -> None:
    check_answered(summary(LOST, RUN))


def test_a_run_without_any_reply_says_why() -> None:
    other = LOST.model_copy(update={"backend": "mock"})
    with pytest.raises(EngineError) as caught:
        check_answered(summary(LOST, other))
    assert str(caught.value) == (
        "every cell failed; llama-cpp: 24 cells failed: 24 x x. mock: 24 cells failed: 24 x x."
    )
    assert caught.value.remedy == "Look."


def test_interruption_tells_how_to_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    _tell_interrupted("20260102-030405-7f3a", Path("my results"))
    out, said = capsys.readouterr()
    assert out == ""
    assert "is kept" in said
    assert "harness run --resume 20260102-030405-7f3a --results 'my results'\n" in said


def test_interruption_before_the_first_prompt(capsys: pytest.CaptureFixture[str]) -> None:
    _tell_interrupted(None, Path("results"))
    assert "before anything was asked" in capsys.readouterr().err
