"""What travels between harness and trainer: read again as it was, or refused."""

from __future__ import annotations

from array import array
from dataclasses import asdict, replace
from typing import Any

import pytest

from backends.trainer.api import (
    Trained,
    TrainInfo,
    TrainOrder,
    TrainStep,
    decode_order,
    decode_step,
    decode_trained,
    encode_order,
    encode_step,
    encode_trained,
)
from backends.wire import WireError

INFO = TrainInfo("torch 2", "m", "fresh", "", "0" * 64, 10, "cpu", "float32", 2, 3.0, 2.0)
TRAINED = Trained(INFO, array("i", [1, 2]), array("i", [3, 4, 5, 6]))


def test_an_order_is_read_as_it_was() -> None:
    order = TrainOrder("classifier", ("a", "b"), array("i", [0, 1]), 1, 1, "/f", texts=("x", "y"))
    assert decode_order(encode_order(order)) == order


def test_a_step_is_read_as_it_was_and_a_loss_that_json_has_not_is_none() -> None:
    step = TrainStep("training", 3, 10, 0.5, 2, 0.7, 1.5)
    assert decode_step(encode_step(step)) == step
    assert decode_step(encode_step(replace(step, loss=float("nan")))).loss is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"event": "other"},
        {"stage": 3},
        {"stage": "x" * 20_000},
        {"step": -1},
        {"steps": 1.5},
        {"loss": "small"},
        {"epoch": None},
        {"more": 1},
    ],
)
def test_a_step_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(WireError, match="step"):
        decode_step({**encode_step(TrainStep("training")), **wrong})


def test_a_result_is_read_as_it_was() -> None:
    assert decode_trained(encode_trained(TRAINED), 1, 2, 2) == TRAINED


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"result": None}, "not a record"),
        ({"result": {"model": "m"}}, "result"),
        ({"result": {**asdict(INFO), "engine": 1}}, "a text is none"),
        ({"result": {**asdict(INFO), "weights": "stolen"}}, "a text is none"),
        ({"result": {**asdict(INFO), "cut": -1}}, "a count"),
        ({"result": {**asdict(INFO), "epochs": "3"}}, "an epoch"),
        ({"queries": array("i", [1])}, "queries: not a score"),
        ({"validation": [1, 2]}, "validation: not a score"),
    ],
)
def test_a_result_that_makes_no_sense_is_refused(wrong: dict[str, Any], reason: str) -> None:
    with pytest.raises(WireError, match=reason):
        decode_trained({**encode_trained(TRAINED), **wrong}, 1, 2, 2)
