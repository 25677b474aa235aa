"""Baselines as sides of a comparison, over runs of the mock and of baselines."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import binom

from harness.comparison.compare import compare
from harness.comparison.records import Comparison
from harness.comparison.samples import right_by_query
from harness.metrics import Outcome
from harness.pipeline.baselines import fit_alone
from harness.pipeline.run import run
from harness.report.compare import warnings
from harness.spec import BaselineSpec, RunSpec
from harness.store.runs import Results, StoredBaseline, StoredEntry, sides

QUERIES = 120


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory, small_data: str) -> Results:
    """Runs "engines" and "alone" over the same data, "other" over others, "fewer" of another seed
    and fewer queries."""
    folder = tmp_path_factory.mktemp("results")
    engines: dict[str, Any] = {
        "backend": ("mock",), "data": small_data, "queries": QUERIES, "voters": 3,
        "calibration_queries": 4, "max_model_len": 300, "reducer": "plsda:1", "max_tokens": 4,
    }  # fmt: skip
    run(RunSpec(**engines), folder, name="engines")
    names = "random-forest", "logistic", "most-frequent"

    def fit(name: str, *baselines: str, data: str = small_data, **more: Any) -> None:
        spec = BaselineSpec(**{"data": data, "queries": QUERIES, "baseline": baselines, **more})
        fit_alone(spec, folder, name=name)

    fit("alone", *names)
    fit("fewer", "logistic", queries=30, seed=5)
    rng, other = np.random.default_rng(1), folder / "other.npz"
    y = np.array(["FAKE", "REAL"])[np.arange(80) % 2]
    X = rng.normal(size=(80, 12))
    np.savez(other, X_train=X[:40], y_train=y[:40], X_test=X[40:], y_test=y[40:])
    fit("other", "logistic", data=str(other))
    copy = folder / "copy.npz"
    copy.write_bytes(Path(small_data).read_bytes())
    fit("moved", "most-frequent", data=str(copy))
    return Results(folder)


def compared(results: Results, *names: str) -> list[Comparison]:
    return compare(sides(names, results)).against_first


def test_the_paired_test_is_mcnemars_by_hand(results: Results) -> None:
    engine, baseline = sides(["engines:mock", "alone:logistic"], results)
    assert isinstance(engine, StoredEntry)
    assert isinstance(baseline, StoredBaseline)
    ones, others = right_by_query(engine), right_by_query(baseline)
    assert ones.keys() == others.keys()
    became_right = sum(others[row] > ones[row] for row in ones)
    became_wrong = sum(others[row] < ones[row] for row in ones)
    # The exact test: of the queries that changed, half are right on either side by chance.
    fewer, changed = min(became_right, became_wrong), became_right + became_wrong
    by_hand = min(1.0, 2 * binom.cdf(fewer, changed, 0.5))
    [one] = compared(results, "engines:mock", "alone:logistic")
    [found] = one.differences
    assert (found.metric, found.paired, found.samples) == ("accuracy", True, (QUERIES, QUERIES))
    assert found.p_value == pytest.approx(by_hand)
    assert found.change == pytest.approx((became_right - became_wrong) / QUERIES)
    assert len(one.flips) == changed
    assert sum(flip.other == flip.truth for flip in one.flips) == became_right


def test_each_baseline_is_a_side_and_holm_is_over_all_pairs(results: Results) -> None:
    every = compare(sides(["engines", "alone"], results))
    names = [one.other.entry for one in every.against_first]
    assert names == ["random-forest", "logistic", "most-frequent"]
    assert {one.other.backend for one in every.against_first} == {"baseline"}
    found = [one.differences[0] for one in every.against_first]
    assert all(one.p_value is not None and one.p_adjusted is not None for one in found)
    assert all((one.p_adjusted or 0) >= (one.p_value or 0) for one in found)
    assert any((one.p_adjusted or 0) > (one.p_value or 0) for one in found)
    assert every.same_accuracy_p is not None
    [lead] = every.leads
    assert lead.metric == "accuracy"
    assert len(every.runs) == 2
    assert every.agreements == []


def test_an_entry_called_like_a_baseline_of_its_run_is_another_side(results: Results) -> None:
    """Which only earlier versions could store."""
    engines = results.run("engines")
    entry = engines.entries["mock"]
    entry._row = replace(entry._row, name="logistic")
    assert sides([entry, engines.fitted["logistic"]]) == [entry, engines.fitted["logistic"]]


def test_two_baselines_of_one_run_are_compared(results: Results) -> None:
    [one] = compared(results, "alone:logistic", "alone:most-frequent")
    assert one.differences[0].outcome is Outcome.WORSE
    assert one.prompts_equal is None
    assert not one.elsewhere
    assert warnings(one) == []


def test_a_baseline_inside_a_run_is_the_same_as_alone(results: Results) -> None:
    [one] = compared(results, "engines:random-forest", "alone:random-forest")
    assert one.differences[0].change == 0
    assert one.flips == []
    [newest] = sides(["latest:random-forest", "engines"], results)[:1]
    assert isinstance(newest, StoredBaseline)
    assert newest.run.name == "alone"


def test_other_data_have_no_paired_test_and_it_says_why(results: Results) -> None:
    [one] = compared(results, "engines", "other")
    assert one.unpaired_because == "their data are not the same"
    assert not one.differences[0].paired
    assert one.flips == []
    assert "queries are not paired: their data are not the same" in warnings(one)[0]
    assert "specs differ in data" in warnings(one)[1]


def test_another_seed_and_fewer_queries_are_said_and_common_queries_are_paired(
    results: Results,
) -> None:
    [one] = compared(results, "engines", "fewer")
    assert {field.field for field in one.spec} == {"seed", "queries"}
    assert one.differences[0].paired
    assert one.differences[0].samples[1] <= 30


def test_the_place_of_equal_data_is_no_difference(results: Results) -> None:
    [one] = compared(results, "alone:logistic", "moved")
    assert one.spec == []
    assert warnings(one) == []
