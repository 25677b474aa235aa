"""The order in which `fit` finds out what is wrong. What it counts is in `tests/end_to_end`."""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

import pytest

import harness.fit.fit
from harness.errors import EngineError
from harness.fit.fit import Order, fit
from harness.spec import RunSpec


def test_that_no_model_can_be_had_is_said_before_data_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> NoReturn:
        raise EngineError("the package of the model is not installed")

    monkeypatch.setattr(harness.fit.fit, "plan_engine", refuse)
    spec = RunSpec(backend=("mock",), data="no-such-file.npz")
    order = Order(spec, [spec.data], [spec.prompt], [spec.reducer], [1.0], [spec.encoding], [512])
    with pytest.raises(EngineError, match="package of the model"):
        fit(order, tmp_path)
