from __future__ import annotations

from pathlib import Path

import pytest
import typer

import harness.cli.run
from harness.cli.options import Format
from harness.cli.run import _say_interrupted, run
from harness.errors import EngineError
from harness.pipeline.run import check_answered
from harness.spec import RunSpec
from harness.store.store import Store
from harness.summary import Caveat, CaveatKind, Cells, RunSummary
from tests.unit.report.conftest import FEW_CAVEAT, Sample

FAILED = Caveat(kind=CaveatKind.CELLS_FAILED, figures={"cells": 24, "reasons": ["24 x x"]})


def failed(sample: Sample, backend: str) -> RunSummary:
    cells = Cells(done=0, failed=24)
    return sample.run(backend=backend, cells=cells, caveats=[FEW_CAVEAT, FAILED])


def test_a_run_whose_entries_all_have_replies_is_whole() -> None:
    sample = Sample()
    check_answered(sample.summary(sample.run(), sample.mock()))


def test_an_entry_without_any_reply_is_named_with_why() -> None:
    sample = Sample()
    with pytest.raises(EngineError) as caught:
        check_answered(
            sample.summary(sample.run(), failed(sample, "mock")), "harness run --resume X"
        )
    assert str(caught.value) == "mock gave no reply: 24 x x"
    assert caught.value.remedy.endswith("Then go on with: harness run --resume X")


def test_a_run_without_any_reply_says_why() -> None:
    sample = Sample()
    with pytest.raises(EngineError) as caught:
        check_answered(sample.summary(failed(sample, "llama-cpp"), failed(sample, "mock")))
    assert str(caught.value) == "llama-cpp gave no reply: 24 x x; mock gave no reply: 24 x x"


@pytest.mark.parametrize("format_", list(Format))
def test_the_answer_is_printed_though_the_store_is_gone(
    format_: Format,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sample = Sample()
    summary = sample.summary(sample.run(), run_id="20260101-120000-7f3a")
    monkeypatch.setattr(harness.cli.run, "_carry_out", lambda _: summary)
    with pytest.raises(typer.Exit) as ended:
        run(data="own.npz", results=tmp_path / "moved", format=format_)
    out, said = capsys.readouterr()
    assert ended.value.exit_code == 1
    assert summary.run_id in out
    assert said.startswith(f"error: {tmp_path / 'moved'}")
    assert format_ is not Format.TABLE or "own.npz" in out


@pytest.mark.parametrize("is_there", [True, False])
def test_interruption_tells_how_to_go_on(
    is_there: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, run_id = tmp_path / "my results", "20260101-120000-7f3a"
    if is_there:
        with Store(folder) as store:
            run_id = store.create_run(RunSpec().model_dump_json(), "{}", [], None)
    _say_interrupted(run_id, folder)
    out, said = capsys.readouterr()
    assert out == ""
    assert ("No reply is stored yet" if is_there else "Everything that was finished") in said
    assert f"  harness show {run_id} --results '{folder}'\n" in said
    assert f"harness run --resume {run_id} --results '{folder}'\n" in said


def test_interruption_before_the_first_prompt(capsys: pytest.CaptureFixture[str]) -> None:
    _say_interrupted(None, Path("results"))
    assert "before anything was prompted" in capsys.readouterr().err


def test_interruption_of_a_curve_names_each_run_to_go_on_with(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Store(tmp_path) as store:
        spec = RunSpec().model_dump_json()
        ids = [store.create_run(spec, "{}", [], None, "curve-1") for _ in range(2)]
        other = store.create_run(spec, "{}", [], None, "curve-2")
    _say_interrupted(ids[0], tmp_path)
    said = capsys.readouterr().err
    assert all(f"harness run --resume {one}" in said for one in ids)
    assert other not in said
