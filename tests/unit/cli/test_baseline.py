from __future__ import annotations

from pathlib import Path
from typing import NoReturn

import pytest

import harness.pipeline.baselines
from harness.cli.baseline import baseline
from harness.errors import EndedBySignal


def test_an_interrupt_says_what_is_stored_and_what_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def ended(*_: object) -> NoReturn:
        raise EndedBySignal(130)

    monkeypatch.setattr(harness.pipeline.baselines, "fit_alone", ended)
    with pytest.raises(EndedBySignal):
        baseline(["knn"], results=tmp_path)
    out, err = capsys.readouterr()
    assert out == ""
    assert "What was fitted is stored; the same command goes on" in err
