"""A plan as people read it, on a narrow terminal."""

from __future__ import annotations

import pytest
from rich.console import Console

from harness.pipeline.plan import Forecast, PlannedEntry, RunPlan
from harness.record import Span
from harness.report.plan import plan_answer


def forecast(value: float, low: float, high: float) -> Forecast:
    return Forecast(value=value, interval=Span(low=low, high=high))


def test_no_duration_is_broken_and_each_is_told_from_its_interval(
    capsys: pytest.CaptureFixture[str],
) -> None:
    entries = [
        PlannedEntry(
            entry=name,
            backend=name,
            model="m",
            prompts=840,
            prompt_tokens=8_123_456,
            prefill_tokens=120_097,
            seconds=seconds,
            source="earlier runs",
            earlier_runs=10,
        )
        for name, seconds in (
            ("llama-cpp", forecast(130, 112, 160)),
            ("hf", forecast(24.2, 23.8, 24.9)),
        )
    ]
    plan = RunPlan(
        voters=1,
        queries=1,
        shots=None,
        max_model_len=1024,
        limit=1024,
        examples_per_voter=[111, 112],
        entries=entries,
        harness_seconds=3.04,
        seconds=forecast(157, 139, 190),
    )
    Console(width=80).print(plan_answer([plan]).parts)
    shown = capsys.readouterr().out
    assert shown.startswith("1 voter x 1 query, 111 to 112 examples each,")
    assert "about 2 min 40 s (2 min 20 s to 3 min 10 s)" in shown
    for line in ("1 min 50 s", "to 2 min 40 s", "23.8 s", "to 24.9 s"):
        assert f"  {line}  " in shown
