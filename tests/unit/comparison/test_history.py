"""From kept runs to series: what belongs together, and what explains a change."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from backends.api import SessionInfo
from harness.comparison.history import Finished, read_history
from harness.comparison.series import History
from harness.errors import UsageError
from harness.machine.environment import Environment, Gpu
from harness.metrics import Verdict
from harness.spec import RunSpec
from harness.stats.change_points import LEAST_RUNS
from harness.store.store import Store
from harness.summary import PromptHashes, RunSummary, Summary
from tests.unit.report.conftest import MOCK_CAVEAT, RUN

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
ENVIRONMENT = Environment(
    created="2026-01-01T00:00:00+00:00",
    platform="Linux",
    python="CPython 3.11",
    cpu="EPYC",
    physical_cores=2,
    logical_cores=4,
    usable_cores=4,
    memory_mib=8000,
    gpus=[],
    git_revision="abc",
    packages={"numpy": "2.0"},
)
INFO = SessionInfo(
    engine="llama-cpp",
    engine_version="1",
    model="small",
    weights="Q4",
    device="cpu",
    threads=2,
    declared_context=10,
    allocated_context=10,
    vocabulary_sha256="v",
)
H100 = Gpu(name="H100", memory_mib=80_000, driver="1")


@dataclass
class Kept:
    """A store, and the runs that were put into it, a day apart."""

    store: Store
    finished: list[Finished] = field(default_factory=list)

    def add(
        self,
        speed: float | None = 100.0,
        runs: Sequence[RunSummary] = (RUN,),
        environment: Environment = ENVIRONMENT,
        info: SessionInfo = INFO,
        **spec: Any,
    ) -> str:
        run_id = self.store.create_run("{}", "{}")
        timed = [
            run.model_copy(
                update={"speed": run.speed.model_copy(update={"prefill_tokens_per_second": speed})}
            )
            for run in runs
        ]
        for run in runs:
            self.store.open_session(run_id, run.backend, info, 1.0, model_sha256="m")
        summary = Summary(
            run_id=run_id,
            created=(BEGIN + timedelta(days=len(self.finished))).isoformat(),
            wall_seconds=1.0,
            harness_seconds=1.0,
            runs=timed,
        )
        whole = RunSpec(**({"backend": tuple(run.backend for run in runs)} | spec))
        self.finished.append(Finished(whole, environment, summary))
        return run_id

    def history(self, metric: str = "prefill_tokens_per_second", **which: Any) -> History:
        return read_history(self.store, self.finished[::-1], metric, **which)


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Kept]:
    with Store(tmp_path) as store:
        yield Kept(store)


def elsewhere(**changes: Any) -> Environment:
    return ENVIRONMENT.model_copy(update=changes)


def test_runs_that_were_asked_the_same_are_one_series_in_the_order_of_time(kept: Kept) -> None:
    ids = [kept.add(100.0 + run, timeout_seconds=10.0 + run) for run in range(3)]
    [one] = kept.history().series
    assert [point.run_id for point in one.points] == ids
    assert [point.value for point in one.points] == [100, 101, 102]
    assert (one.backend, one.model, one.is_mock) == ("llama-cpp", "smollm2-135m", False)
    assert one.asked["voters"] == RunSpec().voters
    assert one.machine.cpu == "EPYC"
    assert one.points[0].git_revision == "abc"


@pytest.mark.parametrize(
    "other",
    [
        {"voters": 3},
        {"model": "other"},
        {"environment": elsewhere(cpu="Xeon")},
        {"environment": elsewhere(gpus=[H100])},
        {"environment": elsewhere(usable_cores=1)},
        {"runs": [RUN.model_copy(update={"backend": "hf"})]},
    ],
)
def test_what_cannot_be_compared_is_another_series(kept: Kept, other: dict[str, Any]) -> None:
    kept.add()
    newest = kept.add(**other)
    first, second = kept.history().series
    assert [point.run_id for point in first.points] == [newest]
    assert len(second.points) == 1


@pytest.mark.parametrize(
    "other",
    [
        {"engine": {"threads": 1}},
        {"prompts_from": "x"},
        {"environment": elsewhere(git_revision=None, memory_mib=1, packages={})},
        {"runs": [RUN, RUN.model_copy(update={"backend": "hf"})]},
    ],
)
def test_what_may_explain_a_change_makes_no_other_series(kept: Kept, other: dict[str, Any]) -> None:
    kept.add()
    kept.add(**other)
    assert len(kept.history(backend="llama-cpp").series) == 1


def test_a_change_names_both_runs_and_all_that_differs(kept: Kept) -> None:
    before = [kept.add(100.0 + run % 3) for run in range(6)]
    after = [
        kept.add(
            80.0 + run % 3,
            runs=[
                RUN.model_copy(
                    update={"prompts": PromptHashes(text_sha256="aa", token_sha256="cc")}
                )
            ],
            environment=elsewhere(
                created="later", git_revision="def", packages={"numpy": "2.1", "scipy": "1"}
            ),
            info=replace(INFO, threads=4),
            engine={"threads": 4},
            backends={"llama-cpp": {"n_batch": 8}, "hf": {"x": 1}},
        )
        for run in range(6)
    ]
    [change] = kept.history().series[0].changes
    assert (change.before, change.after, change.place) == (before[-1], after[0], 6)
    assert (change.level_before, change.level_after) == (101, 81)
    assert change.change == pytest.approx(81 / 101)
    assert change.verdict is Verdict.WORSE
    assert {one.field: (one.first, one.other) for one in change.differing} == {
        "git_revision": ("abc", "def"),
        "packages.numpy": ("2.0", "2.1"),
        "packages.scipy": (None, "1"),
        "threads": (2, 4),
        "options.threads": (None, 4),
        "options.n_batch": (None, 8),
        "prompt_token_sha256": ("bb", "cc"),
    }


def test_less_is_better_for_memory(kept: Kept) -> None:
    for run in range(12):
        peak = (100.0 if run < 6 else 50.0) + run % 2
        memory = RUN.memory.model_copy(update={"peak_rss_mib": peak})
        kept.add(runs=[RUN.model_copy(update={"memory": memory})])
    [change] = kept.history("peak_rss_mib").series[0].changes
    assert change.verdict is Verdict.BETTER
    assert change.differing == []
    assert kept.history().series[0].changes == []


def test_a_share_changes_by_a_difference_and_has_its_interval(kept: Kept) -> None:
    for value in (0.8, 0.5):
        soft = RUN.accuracy.soft
        assert soft is not None
        estimate = soft.model_copy(update={"value": value})
        accuracy = RUN.accuracy.model_copy(update={"soft": estimate})
        for _ in range(LEAST_RUNS):
            kept.add(runs=[RUN.model_copy(update={"accuracy": accuracy})])
    [one] = kept.history("accuracy").series
    assert one.changes[0].change == pytest.approx(-0.3)
    assert one.points[0].interval is not None
    assert one.points[0].interval.low == pytest.approx(0.53)
    [parsed] = kept.history("parse_rate").series
    assert parsed.points[0].value == 0.875
    assert parsed.points[0].interval is not None


def test_a_level_of_nought_has_no_ratio(kept: Kept) -> None:
    for shown in (0, 5):
        fit = RUN.context_fit.model_copy(update={"examples_per_voter": [shown, shown]})
        for _ in range(LEAST_RUNS):
            kept.add(runs=[RUN.model_copy(update={"context_fit": fit})])
    [change] = kept.history("examples_per_voter").series[0].changes
    assert (change.change, change.verdict) == (None, Verdict.BETTER)


def test_runs_without_the_metric_are_counted(kept: Kept) -> None:
    kept.add(None)
    kept.add(5.0)
    [one] = kept.history().series
    assert (one.left_out, len(one.points)) == (1, 1)


def test_a_mock_is_called_one(kept: Kept) -> None:
    kept.add(runs=[RUN.model_copy(update={"backend": "mock", "caveats": [MOCK_CAVEAT]})])
    assert kept.history().series[0].is_mock


def test_one_engine_or_model_only(kept: Kept) -> None:
    kept.add(runs=[RUN, RUN.model_copy(update={"backend": "hf"})])
    kept.add(model="other")
    assert len(kept.history().series) == 3
    assert [one.backend for one in kept.history(backend="hf").series] == ["hf"]
    assert [one.model for one in kept.history(model="other").series] == ["other"]
    with pytest.raises(UsageError, match="no finished run is of hf, other") as refused:
        kept.history(backend="hf", model="other")
    assert "llama-cpp, other" in refused.value.remedy


def test_nothing_kept_is_an_empty_history(kept: Kept) -> None:
    assert kept.history(backend="hf").series == []
