"""From stored runs to series: what belongs together, and what explains a change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from backends.api import SessionInfo
from harness.comparison.history import read_history
from harness.comparison.series import History
from harness.errors import UsageError
from harness.machine.environment import Environment, Gpu
from harness.metrics import Outcome
from harness.pipeline import run as pipeline
from harness.spec import RunSpec
from harness.stats.change_points import LEAST_RUNS
from harness.store.runs import Results, StoredRun
from harness.store.schema import RECORDS_VERSION
from harness.summary import PromptHashes, RunSummary
from tests.unit.comparison.made import (
    ENVIRONMENT,
    INFO,
    SESSION,
    FakeStore,
    stored_run,
    summary_of,
)
from tests.unit.report.conftest import MOCK_CAVEAT, RUN

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
H100 = Gpu(name="H100", memory_mib=80_000, driver="1")
HF = summary_of("hf")


@dataclass
class Stored:
    """Runs that were stored a day apart."""

    runs: list[StoredRun] = field(default_factory=list)

    def add(
        self,
        speed: float | None = 100.0,
        runs: Sequence[RunSummary] = (RUN,),
        info: SessionInfo = INFO,
        run: dict[str, Any] | None = None,
        **spec: Any,
    ) -> str:
        run_id = f"run-{len(self.runs)}"
        timed = [
            one.model_copy(
                update={"speed": one.speed.model_copy(update={"prefill_tokens_per_second": speed})}
            )
            for one in runs
        ]
        self.runs.append(
            stored_run(
                RunSpec(**({"backend": tuple(one.backend for one in runs)} | spec)),
                timed,
                FakeStore(sessions_of=[replace(SESSION, info=info)]),
                run_id=run_id,
                created=(BEGIN + timedelta(days=len(self.runs))).isoformat(),
                **(run or {}),
            )
        )
        return run_id

    def history(self, metric: str = "prefill_tokens_per_second", **which: Any) -> History:
        return read_history(self.runs[::-1], metric, **which)


@pytest.fixture
def stored() -> Stored:
    return Stored()


def elsewhere(**changes: Any) -> dict[str, Environment]:
    return {"environment": ENVIRONMENT.model_copy(update=changes)}


def test_runs_that_were_given_the_same_are_one_series_in_the_order_of_time(stored: Stored) -> None:
    ids = [stored.add(100.0 + run, timeout_seconds=10.0 + run) for run in range(3)]
    [one] = stored.history().series
    assert [point.run_id for point in one.points] == ids
    assert [point.value for point in one.points] == [100, 101, 102]
    assert (one.entry, one.backend, one.model) == ("llama-cpp", "llama-cpp", "smollm2-135m")
    assert (one.is_mock, one.data_sha256) == (False, "data")
    assert one.spec["voters"] == RunSpec().voters
    assert one.machine.cpu == "EPYC"
    assert one.points[0].git_revision == "abc"


@pytest.mark.parametrize(
    "other",
    [
        {"voters": 3},
        {"model": "other"},
        {"run": elsewhere(cpu="Xeon")},
        {"run": elsewhere(gpus=[H100])},
        {"run": elsewhere(usable_cores=1)},
        {"runs": [HF]},
        {"runs": [RUN.model_copy(update={"entry": "other"})]},
        {"run": {"data_sha256": "other"}},
        {"run": {"data_sha256": None}},
    ],
)
def test_what_cannot_be_compared_is_another_series(stored: Stored, other: dict[str, Any]) -> None:
    stored.add()
    newest = stored.add(**other)
    first, second = stored.history().series
    assert [point.run_id for point in first.points] == [newest]
    assert len(second.points) == 1


@pytest.mark.parametrize(
    "other",
    [
        {"engine": {"threads": 1}},
        {"prompts_from": "x"},
        {"data": "./digits"},
        {"text_column": "text", "label_column": "class", "test_share": 0.3},
        {"run": elsewhere(git_revision=None, memory_mib=1, packages={})},
        {"runs": [RUN, HF]},
    ],
)
def test_what_may_explain_a_change_makes_no_other_series(
    stored: Stored, other: dict[str, Any]
) -> None:
    stored.add()
    stored.add(**other)
    assert len(stored.history(backend="llama-cpp").series) == 1


def test_a_default_and_the_number_that_it_comes_to_are_one_series(
    tmp_path: Path, small_data: str
) -> None:
    """Earlier versions stored 8 tokens of reply, which was their default."""
    of_now = RunSpec(
        backend="mock", data=small_data, voters=1, queries=2, calibration_queries=0,
        max_model_len=300, baselines=False,
    )  # fmt: skip
    for max_tokens in (8, None, 9):
        pipeline.run(of_now.model_copy(update={"max_tokens": max_tokens}), tmp_path)
    with Results(tmp_path) as results:
        found = read_history(list(results), "accuracy").series
    assert sorted(len(one.points) for one in found) == [1, 2]


def test_runs_without_the_identity_of_their_data_go_by_its_path(stored: Stored) -> None:
    for path in ("emb.npz", "./emb.npz", "emb.npz"):
        stored.add(data=path, run={"data_sha256": None})
    assert [len(one.points) for one in stored.history().series] == [2, 1]
    assert [one.data_sha256 for one in stored.history().series] == [None, None]


def test_members_of_a_group_and_unfinished_runs_are_no_history(stored: Stored) -> None:
    stored.add()
    stored.add(run={"group": "curve"})
    stored.runs.append(StoredRun(stored.runs[0]._store, replace(stored.runs[0]._row, summary=None)))
    found = stored.history()
    assert [len(one.points) for one in found.series] == [1]
    assert found.unreadable == []


def test_runs_that_cannot_be_read_are_named_and_hide_no_other(stored: Stored) -> None:
    newer = stored.add(run={"records_version": RECORDS_VERSION + 1})
    fine = stored.add()
    stored.runs.append(StoredRun(stored.runs[1]._store, replace(stored.runs[1]._row, spec="{")))
    found = stored.history()
    assert found.unreadable == [newer, fine]
    assert [point.run_id for one in found.series for point in one.points] == [fine]


def test_a_change_names_both_runs_and_all_that_differs(stored: Stored) -> None:
    before = [stored.add(100.0 + run % 3) for run in range(6)]
    after = [
        stored.add(
            80.0 + run % 3,
            runs=[
                RUN.model_copy(
                    update={"prompts": PromptHashes(text_sha256="aa", token_sha256="cc")}
                )
            ],
            run=elsewhere(
                created="later", git_revision="def", packages={"numpy": "2.1", "scipy": "1"}
            ),
            info=replace(INFO, threads=4),
            engine={"threads": 4},
            backends={"llama-cpp": {"n_batch": 8}, "hf": {"x": 1}},
        )
        for run in range(6)
    ]
    [change] = stored.history().series[0].changes
    assert (change.before, change.after, change.place) == (before[-1], after[0], 6)
    assert (change.level_before, change.level_after) == (101, 81)
    assert change.change == pytest.approx(81 / 101)
    assert change.outcome is Outcome.WORSE
    assert {one.field: (one.first, one.other) for one in change.differing} == {
        "git_revision": ("abc", "def"),
        "packages.numpy": ("2.0", "2.1"),
        "packages.scipy": (None, "1"),
        "threads": (2, 4),
        "options.threads": (None, 4),
        "options.n_batch": (None, 8),
        "prompt_token_sha256": ("bb", "cc"),
    }


def test_options_of_an_entry_explain_a_change_whatever_home_its_model_lies_in(
    stored: Stored,
) -> None:
    """`~` in place of a home folder would make another name of it."""
    entry = RUN.model_copy(update={"entry": "llama-cpp@root-m"})
    models = ("/root/m.gguf", "/elsewhere/m.gguf")
    for run in range(12):
        size = 8 if run < 6 else 4
        speed = (100.0 if run < 6 else 50.0) + run % 2
        stored.add(speed, [entry], model=models, backends={"llama-cpp": {"n_batch": size}})
    [change] = stored.history().series[0].changes
    assert [one.field for one in change.differing] == ["options.n_batch"]


def test_less_is_better_for_memory(stored: Stored) -> None:
    for run in range(12):
        peak = (100.0 if run < 6 else 50.0) + run % 2
        memory = RUN.memory.model_copy(update={"peak_rss_mib": peak})
        stored.add(runs=[RUN.model_copy(update={"memory": memory})])
    [change] = stored.history("peak_rss_mib").series[0].changes
    assert change.outcome is Outcome.BETTER
    assert change.differing == []
    assert stored.history().series[0].changes == []


def test_a_share_changes_by_a_difference_and_has_its_interval(stored: Stored) -> None:
    for value in (0.8, 0.5):
        soft = RUN.accuracy.soft
        assert soft is not None
        estimate = soft.model_copy(update={"value": value})
        accuracy = RUN.accuracy.model_copy(update={"soft": estimate})
        for _ in range(LEAST_RUNS):
            stored.add(runs=[RUN.model_copy(update={"accuracy": accuracy})])
    [one] = stored.history("accuracy").series
    assert one.changes[0].change == pytest.approx(-0.3)
    assert one.points[0].interval is not None
    assert one.points[0].interval.low == pytest.approx(0.53)
    [parsed] = stored.history("parse_rate").series
    assert parsed.points[0].value == 1.0
    assert parsed.points[0].interval is not None


def test_a_level_of_nought_has_no_ratio(stored: Stored) -> None:
    for shown in (0, 5):
        fit = RUN.context_fit.model_copy(update={"examples_per_voter": [shown, shown]})
        for _ in range(LEAST_RUNS):
            stored.add(runs=[RUN.model_copy(update={"context_fit": fit})])
    [change] = stored.history("examples_per_voter").series[0].changes
    assert (change.change, change.outcome) == (None, Outcome.BETTER)


def test_runs_without_the_metric_are_counted(stored: Stored) -> None:
    stored.add(None)
    stored.add(5.0)
    [one] = stored.history().series
    assert (one.left_out, len(one.points)) == (1, 1)


def test_a_mock_is_called_one(stored: Stored) -> None:
    stored.add(runs=[summary_of("mock", caveats=[MOCK_CAVEAT])])
    assert stored.history().series[0].is_mock


def test_one_engine_or_model_only(stored: Stored) -> None:
    stored.add(runs=[RUN, HF])
    stored.add(model="other")
    assert len(stored.history().series) == 3
    assert [one.backend for one in stored.history(backend="hf").series] == ["hf"]
    assert [one.model for one in stored.history(model="other").series] == ["other"]
    with pytest.raises(UsageError, match="no finished run is of hf, other") as refused:
        stored.history(backend="hf", model="other")
    assert "llama-cpp, other" in refused.value.remedy


def test_nothing_stored_is_an_empty_history(stored: Stored) -> None:
    assert stored.history(backend="hf").series == []
