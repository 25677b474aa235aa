from __future__ import annotations

from typing import Any

import pytest

from harness.cli.points import points_of, take_lists
from harness.errors import UsageError
from harness.spec import RunSpec


def test_a_list_of_shots_has_a_point_each_the_fewest_first() -> None:
    flags, lists = take_lists({"shots": "max, 4,1", "seed": 3})
    assert (flags, lists) == ({"shots": 1, "seed": 3}, {"shots": [1, 4, None]})
    points = points_of(RunSpec(seed=3, shots=1), lists)
    assert [(one.shots, one.seed) for one in points] == [(1, 3), (4, 3), (None, 3)]
    assert points[1] == RunSpec(seed=3, shots=4)


def test_one_number_is_no_list() -> None:
    assert take_lists({"shots": 4, "max_model_len": None}) == (
        {"shots": 4, "max_model_len": None},
        {},
    )


def test_max_alone_is_as_many_as_fit() -> None:
    """Whatever number the file has."""
    flags, lists = take_lists({"shots": "max"})
    assert flags["shots"] is None
    assert [one.shots for one in points_of(RunSpec(shots=4), lists)] == [None]


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"shots": "1,2,1"}, "--shots has 1 twice"),
        ({"shots": "max,2,max"}, "--shots has max twice"),
        ({"shots": "1,,2"}, "--shots: '' is no whole number"),
        ({"shots": "few"}, "--shots: 'few' is no whole number"),
        ({"max_model_len": "512,max"}, "--max-model-len: 'max' is no whole number"),
        ({"shots": "1,2", "max_model_len": "512,1024"}, "are both lists"),
    ],
)
def test_a_list_that_cannot_be_is_refused(given: dict[str, Any], why: str) -> None:
    with pytest.raises(UsageError, match=why):
        take_lists(given)


def test_each_point_has_to_be_a_run() -> None:
    _, lists = take_lists({"max_model_len": "8,512"})
    with pytest.raises(UsageError, match=r"model.len"):
        points_of(RunSpec(), lists)


def test_a_list_of_concurrency_is_an_option_of_the_engine_at_each_point() -> None:
    flags, lists = take_lists({"concurrency": "16,1"})
    assert (flags, lists) == ({"concurrency": 1}, {"concurrency": [1, 16]})
    points = points_of(RunSpec(engine={"concurrency": 1, "threads": 2}), lists)
    assert [one.engine for one in points] == [
        {"concurrency": 1, "threads": 2},
        {"concurrency": 16, "threads": 2},
    ]


def test_two_lists_are_refused_by_name() -> None:
    with pytest.raises(UsageError, match="--shots and --concurrency are both lists"):
        take_lists({"shots": "1,2", "concurrency": "1,4"})
