"""Load curves over the mock, whose requests take times that are known."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest

from harness.comparison.load import LoadCurve, differ_in_concurrency, load_curve_of, missing_of
from harness.comparison.metrics import METRICS
from harness.comparison.samples import first_token_times, has_own_prompts
from harness.metrics import Outcome
from harness.pipeline.run import run, run_group
from harness.report.formats import as_csv, as_json
from harness.report.group import Point, group_answer
from harness.spec import RunSpec
from harness.store.runs import Results, StoredRun
from harness.summary import CaveatKind, Load, Missing

WAIT, SPEED = 0.1, 10_000  # seconds before each reply, tokens a second of all requests together
AT_ONCE = (1, 4)


def spec(data: str, **engine: bool | int | float | str) -> RunSpec:
    return RunSpec(
        backend=("mock",),
        data=data,
        voters=1,
        queries=60,
        calibration_queries=0,
        max_model_len=200,
        baselines=False,
        engine={"delay_ms": 1000 * WAIT, "tokens_per_second": SPEED, **engine},
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, small_data: str) -> Path:
    results = tmp_path_factory.mktemp("load")
    run_group("load", [spec(small_data, concurrency=n) for n in AT_ONCE], results)
    run(spec(small_data, concurrency=4, cold=True), results, name="cold")
    run(spec(small_data), results, name="plain")
    return results


@pytest.fixture(scope="module")
def results(folder: Path) -> Iterator[Results]:
    with Results(folder) as opened:
        yield opened


def curve(results: Results) -> LoadCurve:
    found = load_curve_of(results.group("load"))
    assert found is not None
    return found


def load(results: Results, name: str) -> Load | None:
    return results.run(name).entry("mock").summary.load


def test_the_planted_times_come_back(results: Results) -> None:
    [entry] = curve(results).entries
    loads = [point.load for point in entry.points if point.load]
    assert [(one.concurrency, one.in_flight, one.requests, one.failed) for one in loads] == [
        (n, n, 60, 0) for n in AT_ONCE
    ]
    for n, one in zip(AT_ONCE, loads, strict=True):
        per_token = n / SPEED
        assert one.request_time_per_output_token_ms is not None
        assert one.request_time_per_output_token_ms.p50.value == pytest.approx(1000 * per_token)
        # All but the first of each slot have next to nothing left to compute.
        assert one.request_time_to_first_token_ms is not None
        assert one.request_time_to_first_token_ms.p50.value == pytest.approx(1000 * WAIT, rel=0.1)
        assert one.request_seconds is not None
        assert one.requests_per_second is not None
        assert one.requests_per_second.value == pytest.approx(n / WAIT, rel=0.15)
        assert one.request_seconds.p50.value <= one.request_seconds.p95.value
        assert one.request_seconds.p95.value <= one.request_seconds.p99.value
        assert one.time_to_first_token_ms is one.batch_seconds is None


def test_the_prompts_of_all_points_are_the_same(results: Results) -> None:
    [entry] = curve(results).entries
    assert [point.same_prompts for point in entry.points] == [True, True]
    first, other = entry.points
    assert first.computed_tokens == first.unique_tokens == other.unique_tokens
    assert other.computed_tokens is not None
    # Each slot computes the common beginning for itself.
    assert other.computed_tokens > 2 * (other.unique_tokens or 0)


def test_a_clients_times_are_none_of_the_engines(results: Results) -> None:
    summary = results.group("load")[0].entry("mock").summary
    assert summary.speed.time_to_first_token_ms is None
    assert summary.missing["time_to_first_token_ms"] is Missing.CLIENT_CLOCK
    assert METRICS["time_to_first_token_ms"].figure(summary) is None
    plain = results.run("plain").entry("mock")
    assert plain.summary.load is None
    assert METRICS["request_time_to_first_token_ms"].figure(plain.summary) is None
    assert first_token_times(plain, "client").blocks == ()


def test_what_is_compared_is_what_is_shown(results: Results) -> None:
    entry = results.group("load")[1].entry("mock")
    for metric in METRICS.values():
        if metric.name.startswith(("request", "output")):
            assert metric.samples is not None
            assert metric.samples(entry).figure == pytest.approx(metric.figure(entry.summary))


def test_cold_figures_have_names_of_their_own_and_its_prompts_are_not_equal(
    results: Results,
) -> None:
    cold = results.run("cold").entry("mock")
    assert has_own_prompts(cold)
    known = {name for name, metric in METRICS.items() if metric.figure(cold.summary) is not None}
    assert {"cold_requests_per_second", "cold_request_seconds"} <= known
    assert known.isdisjoint({"requests_per_second", "request_seconds"})
    assert CaveatKind.PROMPTS_NOT_EQUAL in {one.kind for one in cold.summary.caveats}
    warm = results.group("load")[1].entry("mock").summary
    assert cold.summary.prompts.token_sha256 != warm.prompts.token_sha256
    assert cold.summary.speed.computed_tokens == sum(row.n_tokens for row in cold.tokens)


@pytest.mark.parametrize("name", ["cold", "plain", "load"])
def test_each_null_has_its_reason(results: Results, name: str) -> None:
    entry = (results.group(name) if name == "load" else [results.run(name)])[0].entry("mock")
    known = {one: metric.figure(entry.summary) for one, metric in METRICS.items()}
    nulls = {one for one, figure in known.items() if figure is None}
    if (load := entry.summary.load) is None:
        nulls.add("load")
    else:
        nulls |= {one for one, figure in dict(load).items() if figure is None}
    assert nulls <= set(entry.summary.missing)
    reasons = {"cold": Missing.COLD_RUN, "plain": Missing.NO_CONCURRENCY, "load": None}
    assert entry.summary.missing.get("request_seconds") is reasons[name]


def test_an_engines_own_clock_is_the_reason_for_no_times_of_requests(results: Results) -> None:
    entry = results.group("load")[1].entry("mock")
    assert entry.summary.load is not None
    load = entry.summary.load.model_copy(update={"request_seconds": None})
    with patch("harness.comparison.load.clock_of", return_value="engine"):
        found = missing_of(entry, load)
    assert found["request_seconds"] is found["cold_request_seconds"] is Missing.ENGINE_CLOCK


def test_entries_are_found_whose_names_come_of_a_home_folder(
    tmp_path: Path, small_data: str
) -> None:
    """A shown spec has `~` in its place, of which another name would be made."""
    models = (str(Path.home() / "m.gguf"), "/elsewhere/m.gguf")
    for group in ("first", "second"):  # the second one looks at the first one's times
        specs = [
            spec(small_data, concurrency=n).model_copy(update={"model": models, "queries": 2})
            for n in (1, 2)
        ]
        done = run_group(group, specs, tmp_path)
        assert [one.load and one.load.concurrency for one in done[1].runs] == [2, 2]
    with Results(tmp_path) as stored:
        found = load_curve_of(stored.group("second"))
    assert found is not None
    assert len({one.entry for one in found.entries}) == 2


def test_two_loads_are_compared_by_requests(results: Results) -> None:
    from harness.comparison.compare import compare

    compared = compare([one.entry("mock") for one in results.group("load")])
    found = {one.metric: one for one in compared.against_first[0].differences}
    assert "time_to_first_token_ms" not in found
    assert found["requests_per_second"].outcome is Outcome.BETTER
    assert found["requests_per_second"].change == pytest.approx(4, rel=0.2)


def test_only_runs_that_differ_in_it_alone_are_a_load_curve(small_data: str) -> None:
    def runs(*engines: dict[str, int]) -> list[RunSpec]:
        return [spec(small_data, **engine) for engine in engines]

    assert differ_in_concurrency(runs({"concurrency": 1}, {"concurrency": 4}))
    assert not differ_in_concurrency(runs({"concurrency": 1}, {}))
    assert not differ_in_concurrency(runs({"concurrency": 1}, {"concurrency": 1}))
    assert not differ_in_concurrency(runs({"concurrency": 1}, {"concurrency": 4, "batch": 3}))
    assert not differ_in_concurrency(runs({"concurrency": 1}))


def test_a_group_is_shown_as_its_load_curve(results: Results) -> None:
    def point(one: StoredRun) -> Point:
        return Point(one.run_id, one.spec, one.environment, one.summary)

    runs = results.group("load")
    answer = group_answer("load", list(map(point, runs)), load=curve(results))
    data = json.loads(as_json(answer))
    assert (data["curve"], len(data["load"]["entries"])) == (None, 1)
    rows = list(csv.DictReader(io.StringIO(as_csv(answer))))
    assert [row["concurrency"] for row in rows] == ["1", "4"]
    assert np.all([float(row["load.request_seconds.p99.value"]) > 0 for row in rows])
    assert {row["mock"] for row in rows} == {"true"}
