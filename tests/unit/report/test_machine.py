from __future__ import annotations

from typing import Any

import pytest

from harness.machine.environment import Gpu
from harness.report.machine import machine_line, machine_lines
from tests.unit.comparison.made import ENVIRONMENT

H100 = Gpu(name="NVIDIA H100", memory_mib=81559, driver="1")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "Machine: EPYC, 4 cores, 7.81 GiB, no GPU"),
        ({"usable_cores": 1}, "Machine: EPYC, 1 of 4 cores, 7.81 GiB, no GPU"),
        ({"usable_cores": 1, "logical_cores": 1}, "Machine: EPYC, 1 core, 7.81 GiB, no GPU"),
        ({"usable_cores": None, "logical_cores": None}, "Machine: EPYC, 7.81 GiB, no GPU"),
        ({"gpus": [H100]}, "Machine: EPYC, 4 cores, 7.81 GiB, NVIDIA H100 79.6 GiB"),
        ({"gpus": [H100, H100]}, "Machine: EPYC, 4 cores, 7.81 GiB, 2 x NVIDIA H100 79.6 GiB"),
    ],
)
def test_a_machine_is_named_by_what_speed_comes_from(changes: dict[str, Any], said: str) -> None:
    assert machine_line(ENVIRONMENT.model_copy(update=changes)) == said


def test_each_machine_is_named_once() -> None:
    later = ENVIRONMENT.model_copy(update={"created": "2027"})
    other = ENVIRONMENT.model_copy(update={"cpu": "Xeon"})
    said = machine_lines([ENVIRONMENT, later, other]).plain.splitlines()
    assert [line.split(",")[0] for line in said] == ["Machine: EPYC", "Machine: Xeon"]
