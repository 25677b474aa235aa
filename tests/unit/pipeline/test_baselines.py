"""Baselines alone: over which queries, how they are stored, and what becomes of them when some
cannot be fitted, or the command is ended."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.baselines import registry
from harness.baselines.kind import BaselineKind, Prediction, Task
from harness.errors import DataError, HarnessError, StoreError, UsageError
from harness.pipeline.baselines import Update, fit_alone
from harness.pipeline.run import run
from harness.pipeline.summarise import recompute
from harness.spec import BaselineSpec, RunSpec
from harness.stats.intervals import wilson
from harness.store.runs import Results, StoredRun
from harness.store.store import Store

SEED, QUERIES = 3, 40


def spec(data: str, *names: str, **more: Any) -> BaselineSpec:
    return BaselineSpec(data=data, seed=SEED, queries=QUERIES, baseline=names, **more)


def stored(results: Path) -> list[StoredRun]:
    return list(Results(results)) if (results / "harness.sqlite").exists() else []


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory, small_data: str) -> Path:
    """A run of the mock, then one of baselines over the same data."""
    folder = tmp_path_factory.mktemp("results")
    engines = RunSpec(
        backend=("mock",), data=small_data, seed=SEED, queries=QUERIES, voters=2, max_tokens=4,
        reducer="plsda:1", calibration_queries=4, max_model_len=300,
    )  # fmt: skip
    run(engines, folder)
    fit_alone(spec(small_data, "random-forest", "logistic", "knn"), folder, name="alone")
    return folder


def test_queries_and_predictions_are_those_inside_a_run(results: Path) -> None:
    alone, inside = list(Results(results))
    assert alone.queries == inside.queries
    assert len(alone.queries.rows) == QUERIES
    assert alone.data_sha256 == inside.data_sha256
    for name in ("random-forest", "logistic"):
        ours, theirs = alone.fitted[name].record, inside.fitted[name].record
        assert ours.predictions == theirs.predictions
        assert (ours.name, ours.estimate) == (theirs.name, theirs.estimate)


def test_what_is_stored_of_each(results: Path) -> None:
    alone = Results(results).run("alone")
    assert alone.is_finished
    assert alone.entries == {}
    assert alone.any_spec == spec(alone.any_spec.data, "random-forest", "logistic", "knn")
    assert alone.summary.runs == []
    assert alone.summary.baselines == alone.baselines
    assert list(alone.fitted) == ["random-forest", "logistic", "knn"]
    for one in alone.baselines:
        right = np.array(one.predictions) == np.array(alone.queries.labels)
        assert one.estimate == wilson(int(right.sum()), QUERIES)
        assert one.seconds is not None
        assert one.peak_rss_mib is not None
        assert one.peak_rss_mib > 10
    assert alone.baselines[-1].facts == {"neighbours": 15}
    assert recompute(alone) == alone.summary


def test_a_run_of_baselines_was_not_prompted(results: Path) -> None:
    with pytest.raises(StoreError, match="is of baselines: nothing was prompted"):
        _ = Results(results).run("alone").spec
    with pytest.raises(StoreError, match="is of baselines"):
        Results(results).entries("alone")


def test_data_of_one_class_are_refused_and_nothing_is_stored(tmp_path: Path) -> None:
    path = tmp_path / "one.csv"
    path.write_text("a,label\n1,x\n2,x\n3,x\n4,x\n", encoding="utf-8")
    with pytest.raises(DataError, match="only one class"):
        fit_alone(spec(str(path), "knn"), tmp_path / "results")
    assert stored(tmp_path / "results") == []


@pytest.mark.parametrize("name", ["taken", "latest"])
def test_a_name_that_cannot_be_is_refused_before_anything_is_fitted(
    tmp_path: Path, small_data: str, name: str
) -> None:
    fit_alone(spec(small_data, "most-frequent"), tmp_path, name="taken")

    def no_update(update: Update) -> None:
        pytest.fail(f"{update.name} is fitted")

    with pytest.raises(UsageError, match=name):
        fit_alone(spec(small_data, "knn"), tmp_path, no_update, name=name)


def add(monkeypatch: pytest.MonkeyPatch, predict: Any, **more: Any) -> None:
    """Another baseline, called "planted"."""
    kind = BaselineKind("planted", "planted", ("vectors",), "planted:predict", **more)
    monkeypatch.setattr(registry, "ALONE", (*registry.ALONE, kind))
    monkeypatch.setattr(
        BaselineKind,
        "load",
        lambda self: predict if self is kind else _load(self),
    )


_load = BaselineKind.load


def all_of_class_0(task: Task) -> Prediction:
    return Prediction(np.zeros(len(task.X_queries), dtype=np.int64))


def test_one_that_cannot_be_fitted_does_not_stop_the_others(
    tmp_path: Path, small_data: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(task: Task) -> None:
        raise DataError("no weights", remedy="Install them.")

    add(monkeypatch, fail)
    done = fit_alone(spec(small_data, "planted", "most-frequent"), tmp_path)
    assert [one.kind for one in done.summary.baselines] == ["most-frequent"]
    assert [str(error) for error in done.failures.values()] == ["no weights"]
    assert stored(tmp_path)[0].summary.baselines == done.summary.baselines
    with pytest.raises(DataError, match="no weights"):
        fit_alone(spec(small_data, "planted"), tmp_path)
    assert len(stored(tmp_path)) == 1


def test_one_that_does_not_apply_says_so(
    tmp_path: Path, small_data: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(monkeypatch, lambda task: None)
    with pytest.raises(HarnessError, match="planted: there is nothing to learn from"):
        fit_alone(spec(small_data, "planted"), tmp_path)


@pytest.mark.parametrize(("names", "runs"), [(["planted"], 0), (["most-frequent", "planted"], 1)])
def test_an_end_leaves_what_is_finished_and_nothing_half_stored(
    tmp_path: Path,
    small_data: str,
    monkeypatch: pytest.MonkeyPatch,
    names: list[str],
    runs: int,
) -> None:
    def end(task: Task) -> None:
        raise SystemExit(130)

    add(monkeypatch, end)
    with pytest.raises(SystemExit):
        fit_alone(spec(small_data, *names), tmp_path)
    found = stored(tmp_path)
    assert len(found) == runs
    for one in found:
        assert [baseline.kind for baseline in one.summary.baselines] == ["most-frequent"]
        assert one.baselines == one.summary.baselines


def test_an_end_while_the_first_is_stored_leaves_no_run(
    tmp_path: Path, small_data: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def end(*given: object) -> None:
        raise SystemExit(130)

    monkeypatch.setattr(Store, "finish_run", end)
    with pytest.raises(SystemExit):
        fit_alone(spec(small_data, "most-frequent"), tmp_path)
    assert stored(tmp_path) == []


def test_an_option_is_refused_with_the_baselines_that_it_is_for(
    tmp_path: Path, small_data: str
) -> None:
    with pytest.raises(UsageError, match=r"^--images, --reducer: not for knn, probe$") as caught:
        fit_alone(spec(small_data, "knn", "probe", images="x", reducer="pca:2"), tmp_path)
    assert caught.value.remedy == "--images is for: clip. --reducer is for: distilbert."
    assert stored(tmp_path) == []


@pytest.mark.parametrize("gone", ["queries", "baselines"])
def test_a_summary_of_nothing_is_an_unreadable_run(
    tmp_path: Path, small_data: str, gone: str
) -> None:
    run_id = fit_alone(spec(small_data, "most-frequent"), tmp_path).summary.run_id
    with Store(tmp_path) as store:
        record = json.loads(stored(tmp_path)[0].summary.model_dump_json())
        nothing = {"queries": {"classes": [], "rows": [], "labels": []}, "baselines": []}
        store.finish_run(run_id, json.dumps({**record, gone: nothing[gone]}))
    with pytest.raises(StoreError, match="nothing there"):
        _ = stored(tmp_path)[0].summary


def test_facts_memory_and_progress_come_from_the_baseline(
    tmp_path: Path, small_data: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts: Mapping[str, Any] = {"weights": "fresh", "pair accuracy": 0.47}

    def predict(task: Task) -> Prediction:
        task.say("epoch 2 of 5")
        return Prediction(all_of_class_0(task).labels, facts, peak_rss_mib=7.0, peak_gpu_mib=9.0)

    add(monkeypatch, predict)
    seen: list[Update] = []
    done = fit_alone(spec(small_data, "most-frequent", "planted"), tmp_path, seen.append)
    assert seen[1:] == [
        Update("planted", "fitting", 1, 2),
        Update("planted", "epoch 2 of 5", 1, 2),
    ]
    planted = done.summary.baselines[-1]
    assert (planted.facts, planted.peak_rss_mib, planted.peak_gpu_mib) == (facts, 7.0, 9.0)


def test_checkpoints_are_where_the_same_order_finds_them_and_go_once_it_is_stored(
    tmp_path: Path, small_data: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders: list[Path] = []
    ends = [True]

    def predict(task: Task) -> Prediction:
        assert task.folder is not None
        folders.append(task.folder)
        task.folder.mkdir(parents=True, exist_ok=True)
        (task.folder / "epoch-1").touch()
        if ends:
            raise SystemExit(ends.pop())
        return all_of_class_0(task)

    add(monkeypatch, predict)
    with pytest.raises(SystemExit):
        fit_alone(spec(small_data, "planted"), tmp_path)
    assert (folders[0] / "epoch-1").exists()
    fit_alone(spec(small_data, "planted"), tmp_path)
    assert folders[0] == folders[1]
    assert not folders[0].parent.exists()
    fit_alone(spec(small_data, "planted").model_copy(update={"seed": 4}), tmp_path)
    assert folders[2] != folders[0]
