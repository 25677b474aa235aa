"""An engine of a run: its options, its session, and the next session when that one is lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psutil
import pytest

from backends import mock
from backends.api import Decoding, Requirements
from harness.engine.engine import Engine, check_options
from harness.engine.session import WorkerLostError
from harness.errors import UsageError
from harness.spec import RunSpec


def spec(**changes: Any) -> RunSpec:
    return RunSpec(**({"backend": "mock", "max_model_len": 100} | changes))


def opened(log: Path, **changes: Any) -> Engine:
    return Engine("mock", spec(**changes), log)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "mock.log"


def test_the_length_and_the_common_options_reach_the_engine(log: Path) -> None:
    with opened(log, engine={"context": 50}) as engine:
        assert engine.session.info.declared_context == 100
        assert engine.session.info.allocated_context == 50
        assert engine.model_sha256 is None


def test_a_backends_own_option_goes_over_the_common_one(log: Path) -> None:
    own = {"mock": {"context": 60}, "llama-cpp": {"threads": 1}}
    with opened(log, engine={"context": 50}, backends=own) as engine:
        assert engine.session.info.allocated_context == 60


def test_a_common_option_that_only_another_backend_knows_is_left_out(log: Path) -> None:
    with opened(log, backend=("mock", "llama-cpp"), engine={"threads": 1}) as engine:
        assert engine.session.info.is_mock


def test_packages_that_are_missing_do_no_harm_where_the_backend_can_run_without(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = Requirements(("one-of-another-name>=1",))
    monkeypatch.setattr(mock, "requirements", lambda has_gpu: wanted)
    with opened(log) as engine:
        assert engine.session.info.is_mock


def test_an_option_of_its_own_that_it_does_not_know_is_an_error(log: Path) -> None:
    with pytest.raises(UsageError, match="mock knows no option speed") as caught:
        opened(log, backends={"mock": {"speed": 9}})
    assert "delay_ms" in caught.value.remedy


def test_a_common_option_that_no_backend_knows_is_an_error() -> None:
    check_options(spec(backend=("mock", "llama-cpp"), engine={"threads": 1, "batch": 2}))
    with pytest.raises(UsageError, match="mock knows no option threads"):
        check_options(spec(engine={"threads": 1, "batch": 2}))


def test_a_lost_session_is_followed_by_another(log: Path) -> None:
    with opened(log, engine={"crash_at": 1}) as engine:
        lost = engine.session
        with pytest.raises(WorkerLostError):
            list(lost.generate([[1]], Decoding("score", ((1,),))))
        busy = engine.busy_seconds
        engine.restart()
        assert engine.session is not lost
        assert engine.session.tokenize(["a"]) == [[97]]
        assert engine.busy_seconds > busy > 0


@pytest.mark.parametrize("failing", [True, False])
def test_no_process_outlives_the_with_statement(log: Path, failing: bool) -> None:
    class StopError(Exception):
        pass

    try:
        with opened(log) as engine:
            assert engine.session.info.is_mock
            if failing:
                raise StopError
    except StopError:
        pass
    assert not psutil.Process().children()
