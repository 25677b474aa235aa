"""The whole of a regression test is one call and what has to hold."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from harness.summary import RunSummary

pytestmark = pytest.mark.harness(backend="mock", voters=2, queries=20, calibration_queries=5)


@pytest.mark.harness(rounds=12)
def test_votes(
    benchmark: Any,
    harness_run: Callable[..., RunSummary],
    data: str,
    engine: dict[str, object],
    context: int,
) -> None:
    result = harness_run(benchmark, data=data, engine=engine, max_model_len=context)
    assert (result.cells.done, result.cells.failed) == (50, 0)
    assert result.speed.computed_tokens == result.speed.unique_tokens  # each round is cold


def test_a_session_is_the_modules(harness_session: Callable[..., Any]) -> None:
    session = harness_session("mock", "any", max_model_len=300)
    assert session.info.is_mock
    assert session.tokenize(["ab"]) == [[97, 98]]
    assert harness_session("mock", "any", max_model_len=300) is session
    assert harness_session("mock", "any", max_model_len=400) is not session
