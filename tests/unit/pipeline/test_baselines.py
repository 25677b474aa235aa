"""Baselines alone: over which queries, how they are stored, and what becomes of them when some
cannot be fitted, or the command is ended."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.baselines import registry
from harness.baselines.kind import BaselineKind, Prediction, Task
from harness.errors import DataError, HarnessError, StoreError, UsageError
from harness.pipeline.baselines import Update, fit_alone, remove_unwanted
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


def test_what_cannot_be_is_refused_before_anything_is_fitted(
    tmp_path: Path, small_data: str
) -> None:
    for wrong in (spec(small_data, "knn", "clip"), spec(small_data, "knn", "distilbert", epochs=0)):
        with pytest.raises(UsageError):
            fit_alone(wrong, tmp_path, lambda update: pytest.fail(f"{update.name} is fitted"))
    assert stored(tmp_path) == []


@pytest.mark.parametrize("gone", ["queries", "baselines"])
def test_a_summary_of_nothing_is_an_unreadable_run(
    tmp_path: Path, small_data: str, gone: str
) -> None:
    run_id = fit_alone(spec(small_data, "most-frequent"), tmp_path).summary.run_id
    with Store(tmp_path) as store:
        record = json.loads(stored(tmp_path)[0].summary.model_dump_json())
        nothing = {"queries": {"classes": [], "rows": [], "labels": []}, "baselines": []}
        store.finish_run(run_id, json.dumps({**record, gone: nothing[gone]}), [])
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


class Trained:
    """A baseline that leaves a checkpoint, and is ended as often as `ends` says."""

    def __init__(self, ends: int) -> None:
        self.ends = ends
        self.folders: list[Path] = []

    def __call__(self, task: Task) -> Prediction:
        assert task.folder is not None
        self.folders.append(task.folder)
        task.folder.mkdir(parents=True, exist_ok=True)
        (task.folder / "epoch-1").touch()
        if len(self.folders) <= self.ends:
            raise SystemExit(130)
        return all_of_class_0(task)


def test_the_same_command_goes_on_with_the_run_that_it_began(
    tmp_path: Path, small_data: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = Trained(ends=2)
    add(monkeypatch, trained)
    wanted = spec(small_data, "most-frequent", "planted")
    for _ in range(2):
        with pytest.raises(SystemExit):
            fit_alone(wanted, tmp_path, name="mine")
    [begun] = stored(tmp_path)
    assert (begun.not_fitted, len(begun.summary.baselines)) == (["planted"], 1)
    seen: list[Update] = []
    done = fit_alone(wanted, tmp_path, seen.append, name="mine")
    assert [(one.name, one.said) for one in seen] == [
        ("most-frequent", "fitted before"),
        ("planted", "fitting"),
    ]
    [run] = stored(tmp_path)
    assert (run.run_id, run.not_fitted) == (begun.run_id, [])
    assert run.summary == done.summary
    assert done.summary.baselines[0] == begun.summary.baselines[0]
    assert (done.summary.wall_seconds or 0) > (begun.summary.wall_seconds or 0)
    # It is complete: given once more, the command begins another.
    with pytest.raises(UsageError, match="'mine' is used already"):
        fit_alone(wanted, tmp_path, name="mine")
    fit_alone(wanted, tmp_path)
    assert len(stored(tmp_path)) == 2


def test_what_is_another_command_or_of_other_data_begins_another_run(
    tmp_path: Path, small_data: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(monkeypatch, Trained(ends=99))
    data = tmp_path / "data.npz"
    shutil.copy(small_data, data)
    names = ("most-frequent", "planted")

    def end(given: BaselineSpec) -> None:
        with pytest.raises(SystemExit):
            fit_alone(given, tmp_path / "results")

    end(spec(str(data), *names))
    end(spec(str(data), *reversed(names)))
    with np.load(small_data) as arrays:
        np.savez(data, **{**arrays, "X_train": 2 * arrays["X_train"]})
    end(spec(str(data), *names))
    assert len(stored(tmp_path / "results")) == 3


def test_two_of_the_same_command_do_not_mix(
    tmp_path: Path, small_data: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def predict(task: Task) -> Prediction:
        with pytest.raises(StoreError, match="is in use by process"):
            fit_alone(spec(small_data, "planted"), tmp_path)
        return all_of_class_0(task)

    add(monkeypatch, predict)
    fit_alone(spec(small_data, "planted"), tmp_path)
    assert len(stored(tmp_path)) == 1


def test_checkpoints_stay_as_long_as_a_run_can_go_on_with_them(
    tmp_path: Path, small_data: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = Trained(ends=2)
    add(monkeypatch, trained)
    wanted = spec(small_data, "planted")
    for given in (wanted, wanted.model_copy(update={"seed": 4})):
        with pytest.raises(SystemExit):
            fit_alone(given, tmp_path)
    fit_alone(wanted, tmp_path)
    first, second, third = trained.folders
    assert (first, first.exists(), second.exists()) == (third, False, True)
    fit_alone(spec(small_data, "most-frequent"), tmp_path)
    assert second.exists()
    with Store(tmp_path) as store:
        store.delete_runs([run.run_id for run in stored(tmp_path) if run.not_fitted])
        remove_unwanted(store)
    assert not second.parent.exists()


def test_checkpoints_of_a_run_that_begins_meanwhile_are_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = tmp_path / "checkpoints" / "distilbert-of-another-process"
    (tmp_path / "checkpoints" / "old").mkdir(parents=True)
    with Store(tmp_path) as store:
        read = store.runs

        def runs() -> Any:
            found = read()
            begun.mkdir()
            return found

        monkeypatch.setattr(store, "runs", runs)
        remove_unwanted(store)
    assert list(begun.parent.iterdir()) == [begun]


def test_checkpoints_of_a_run_of_a_newer_version_are_left(
    tmp_path: Path, small_data: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = Trained(ends=1)
    add(monkeypatch, trained)
    with pytest.raises(SystemExit):
        fit_alone(spec(small_data, "planted"), tmp_path)
    with sqlite3.connect(tmp_path / "harness.sqlite") as raw:
        raw.execute("UPDATE runs SET records_version = 999")
    fit_alone(spec(small_data, "most-frequent"), tmp_path)
    assert trained.folders[0].exists()
