from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.comparison.curve import curve_of, varied_by
from harness.pipeline.run import run_group
from harness.report.curve import records, sentence
from harness.report.formats import as_csv, as_json
from harness.report.group import Point, group_answer
from harness.spec import RunSpec
from harness.store.runs import Results


def test_runs_that_differ_in_one_field_are_a_curve() -> None:
    plain = RunSpec(shots=4)
    assert varied_by([plain, RunSpec(), RunSpec(shots=8)]) == "shots"
    assert varied_by([RunSpec(), RunSpec(max_model_len=512)]) == "max_model_len"
    assert varied_by([plain, RunSpec(shots=8, seed=1)]) is None
    assert varied_by([plain, RunSpec(shots=8, max_model_len=512)]) is None
    assert varied_by([plain, plain]) is None
    assert varied_by([plain]) is None


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, small_data: str) -> Path:
    results = tmp_path_factory.mktemp("curve")
    plain = RunSpec(backend=("mock",), data=small_data, voters=1, calibration_queries=0)
    run_group("shots", [plain.model_copy(update={"shots": n}) for n in (4, 1, 2)], results)
    return results


def test_a_curve_has_its_points_in_the_order_of_examples(folder: Path) -> None:
    with Results(folder) as stored:
        runs = stored.group("shots")
        curve = curve_of(runs)
        assert curve is not None
        assert curve_of(runs[:1]) is None
    assert [run.run_id for run in (runs[1], runs[2], runs[0])] == curve.run_ids
    [entry] = curve.entries
    assert [point.examples for point in entry.points] == [1, 2, 4]
    assert (entry.outcome == "stops") == (entry.stops_at is not None)
    rows = records("shots", curve)
    assert len(rows) == 3 * (1 + len(curve.baselines))
    assert {row["kind"] for row in rows} == {"entry", "baseline"}


def test_a_group_that_is_a_curve_is_shown_as_one(folder: Path) -> None:
    with Results(folder) as stored:
        runs = stored.group("shots")
        curve = curve_of(runs)
        points = [Point(run.run_id, run.spec, run.environment, run.summary) for run in runs]
    answer = group_answer("shots", points, curve)
    assert json.loads(as_json(answer))["curve"]["run_ids"] == [
        one["run_id"] for one in _entries(as_csv(answer))
    ]
    assert json.loads(as_json(group_answer("shots", points)))["curve"] is None


def _entries(text: str) -> list[dict[str, str]]:
    import csv
    import io

    return [row for row in csv.DictReader(io.StringIO(text)) if row["kind"] == "entry"]


def test_each_outcome_has_its_sentence(folder: Path) -> None:
    with Results(folder) as stored:
        curve = curve_of(stored.group("shots"))
    assert curve is not None
    [entry] = curve.entries
    first, second = curve.run_ids[:2]

    def said(outcome: str, stops_at: str | None) -> str:
        changes = {"outcome": outcome, "stops_at": stops_at, "last": None}
        return sentence(curve, entry.model_copy(update=changes))

    assert said("stops", first).startswith("No rise is seen from 1 examples on: none of the 2")
    assert said("stops", second).startswith("The curve stops rising from 2 examples on")
    assert said("rises", None).startswith("Not shown to stop rising")
    assert said("unknown", None).startswith("It takes three points")
