"""The list of metrics: a metric that is added there is found wherever metrics are."""

from __future__ import annotations

import pytest

from harness.comparison.compare import compare
from harness.comparison.history import read_history
from harness.comparison.metrics import METRICS, with_metrics
from harness.metrics import Metric, Outcome
from harness.report.words import presented_comparison
from harness.testing.limits import Limit, judge, parse_limits
from tests.unit.comparison.made import Made, entry
from tests.unit.report.conftest import RUN
from tests.unit.testing.test_limits import evidence, with_values

GPU = Metric(
    name="peak_gpu_mib",
    title="GPU MiB",
    unit="MiB",
    more_is_better=False,
    kind="count",
    value=lambda run: run.memory.peak_gpu_mib,
)

OF_REQUESTS = (
    "requests_per_second",
    "output_tokens_per_second",
    "request_time_to_first_token_ms",
    "request_time_per_output_token_ms",
    "request_seconds",
)
OF_LOAD = (*OF_REQUESTS, *(f"cold_{name}" for name in OF_REQUESTS))
"""Those of an entry whose prompts were in flight side by side."""


def test_a_metric_is_added_in_one_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METRICS, GPU.name, GPU)
    memory = RUN.memory.model_copy(update={"peak_gpu_mib": 100.0})
    one = entry(Made(summary={"memory": memory}))
    more = memory.model_copy(update={"peak_gpu_mib": 150.0})
    other = entry(Made(run_id="b", summary={"memory": more}))

    assert with_metrics(one.run.summary).runs[0].metrics[GPU.name] == 100.0

    compared = compare([one, other])
    [found] = [d for d in compared.against_first[0].differences if d.metric == GPU.name]
    assert (found.change, found.test, found.outcome) == (1.5, "counted", Outcome.WORSE)
    assert presented_comparison(compared).runs[1].runs[0].metrics[GPU.name] == 150.0

    history = read_history([one.run, other.run], GPU.name)
    assert [point.value for point in history.series[0].points] == [100.0, 150.0]
    assert (history.unit, history.more_is_better) == ("MiB", False)

    limits = list(parse_limits("peak_gpu_mib:10%").values())
    before, now = with_values(peak_gpu_mib=100.0), with_values(peak_gpu_mib=150.0)
    [finding] = judge(before, now, limits)
    assert finding.is_regression
    [gone] = judge(before, evidence(), [Limit(GPU.name, 10)])
    assert gone.difference is None


def test_every_metric_of_a_summary_is_its_figure() -> None:
    [filled] = with_metrics(entry().run.summary).runs
    assert filled.metrics == {
        "accuracy": 0.62,
        "parse_rate": 1.0,
        "prefill_tokens_per_second": 1234.5,
        "decode_tokens_per_second": 88.13,
        "time_to_first_token_ms": 702.0,
        **dict.fromkeys(OF_LOAD),
        "peak_rss_mib": 236.4,
        "examples_per_voter": 36.5,
        "load_seconds": 0.5,
    }


def test_what_does_not_apply_is_none() -> None:
    speed = RUN.speed.model_copy(update={"time_to_first_token_ms": None, "load_seconds": None})
    parse = RUN.parse.model_copy(update={"lenient": None})
    summary = entry(Made(summary={"speed": speed, "parse": parse})).run.summary
    [filled] = with_metrics(summary).runs
    assert [name for name, value in filled.metrics.items() if value is None] == [
        "parse_rate",
        "time_to_first_token_ms",
        *OF_LOAD,
        "load_seconds",
    ]


def test_each_kind_has_the_samples_of_its_kind() -> None:
    for metric in METRICS.values():
        assert (metric.samples is None) == (metric.kind in ("per_session", "count"))
        assert (metric.interval(RUN) is not None) == metric.is_share
