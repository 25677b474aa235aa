from __future__ import annotations

from pathlib import Path
from typing import NoReturn

import pytest

import harness.pipeline.baselines
from harness.cli.baseline import baseline
from harness.errors import EndedBySignal


@pytest.mark.parametrize(("name", "goes_on"), [("knn", False), ("two-towers", True)])
def test_an_interrupt_says_what_is_stored_and_what_a_training_does_next(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    goes_on: bool,
) -> None:
    def ended(*_: object) -> NoReturn:
        raise EndedBySignal(130)

    monkeypatch.setattr(harness.pipeline.baselines, "fit_alone", ended)
    with pytest.raises(EndedBySignal):
        baseline([name], results=tmp_path)
    out, err = capsys.readouterr()
    assert out == ""
    assert "The baselines that were fitted are stored" in err
    assert ("from its last checkpoint" in err) == goes_on
