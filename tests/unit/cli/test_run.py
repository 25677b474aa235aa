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
from harness.store.store import Store
from harness.summary import Caveat, CaveatKind, Cells, RunSummary
from tests.unit.report.conftest import FEW_CAVEAT, Sample

TABLES = {"engine", "backends", "entries", "models"}
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


FAILED = Caveat(kind=CaveatKind.CELLS_FAILED, figures={"cells": 24, "reasons": ["24 x x"]})


def lost(sample: Sample, backend: str) -> RunSummary:
    cells = Cells(done=0, failed=24)
    return sample.run(backend=backend, cells=cells, caveats=[FEW_CAVEAT, FAILED])


def test_a_run_whose_entries_all_have_replies_is_whole() -> None:
    sample = Sample()
    check_answered(sample.summary(sample.run(), sample.mock()))


def test_an_entry_without_any_reply_is_named_with_why() -> None:
    sample = Sample()
    with pytest.raises(EngineError) as caught:
        check_answered(sample.summary(sample.run(), lost(sample, "mock")))
    assert str(caught.value) == "mock gave no reply; mock: 24 x x"
    assert "--resume" in caught.value.remedy


def test_a_run_without_any_reply_says_why() -> None:
    sample = Sample()
    with pytest.raises(EngineError) as caught:
        check_answered(sample.summary(lost(sample, "llama-cpp"), lost(sample, "mock")))
    assert str(caught.value) == "every cell failed; llama-cpp: 24 x x; mock: 24 x x"


def test_interruption_tells_how_to_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "my results"
    with Store(folder) as store:
        run_id = store.create_run(RunSpec().model_dump_json(), "{}", [], None)
    _tell_interrupted(run_id, folder)
    out, said = capsys.readouterr()
    assert out == ""
    assert "is stored" in said
    assert f"harness run --resume {run_id} --results '{folder}'\n" in said


def test_interruption_before_the_first_prompt(capsys: pytest.CaptureFixture[str]) -> None:
    _tell_interrupted(None, Path("results"))
    assert "before anything was prompted" in capsys.readouterr().err
