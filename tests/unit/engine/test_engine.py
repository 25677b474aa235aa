"""An engine of a run: its plan, its session, and the next session when that one fails."""

from __future__ import annotations

import os
import shutil
import textwrap
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from backends import mock
from backends.api import Availability, Capabilities, Decoding, Prompt, Requirements
from harness.engine import engine as engine_module
from harness.engine.engine import MOST_STARTS, Engine, EnginePlan, plan_engine
from harness.engine.models import file_sha256
from harness.engine.options import check_options
from harness.engine.transport import WorkerDiedError, WorkerFailedError
from harness.errors import EngineError, UsageError
from harness.spec import RunSpec, entries_of

SCORE = Decoding("score", ((1,),))


def spec(**changes: Any) -> RunSpec:
    return RunSpec(**({"backend": "mock", "max_model_len": 100} | changes))


def plans(logs: Path, **changes: Any) -> list[EnginePlan]:
    given = spec(**changes)
    return [plan_engine(entry, given, logs) for entry in entries_of(given)]


def opened(logs: Path, **changes: Any) -> Engine:
    return Engine(plans(logs, **changes)[0], 100)


def test_the_length_and_the_common_options_reach_the_engine(tmp_path: Path) -> None:
    with opened(tmp_path, engine={"context": 50}) as engine:
        assert engine.session.info.allocated_context == 50
        assert engine.model_sha256 is None


def test_an_engine_is_as_long_as_was_packed_and_a_tokenizer_as_was_wanted(tmp_path: Path) -> None:
    [plan] = plans(tmp_path)
    assert plan.options == {"max_model_len": 100}
    with Engine(plan, 64) as engine:
        assert engine.session.info.allocated_context == 64
    tokenizer = plan.open_tokenizer()
    assert tokenizer.tokenize(["a"]) == [[97]]
    tokenizer.close()
    assert not psutil.Process().children()


def test_a_backends_own_option_goes_over_the_common_one(tmp_path: Path) -> None:
    own = {"mock": {"context": 60}, "llama-cpp": {"threads": 1}}
    with opened(tmp_path, engine={"context": 50}, backends=own) as engine:
        assert engine.session.info.allocated_context == 60


def test_a_common_option_that_only_another_backend_knows_is_left_out(tmp_path: Path) -> None:
    given = spec(backend=("mock", "llama-cpp"), engine={"threads": 1})
    plan = plan_engine(entries_of(given)[0], given, tmp_path)
    assert "threads" not in plan.options


def test_entries_of_one_backend_have_options_models_and_logs_of_their_own(tmp_path: Path) -> None:
    entries: dict[str, dict[str, Any]] = {
        "small": {"backend": "mock", "context": 40},
        "large one": {"backend": "mock", "context": 80, "model": "other"},
    }
    small, large = plans(tmp_path, backend=(), entries=entries, engine={"batch": 2})
    assert [plan.log.name for plan in (small, large)] == ["small.log", "large-one.log"]
    assert small.options == {"batch": 2, "context": 40, "max_model_len": 100}
    with Engine(small, 100) as one, Engine(large, 100) as two:
        assert (one.name, two.name) == ("small", "large-one")
        assert one.session.info.allocated_context == 40
        assert (two.session.info.model, two.session.info.allocated_context) == ("other", 80)
        [worker] = {event.worker for event in two.session.generate([Prompt([1])], SCORE)}
    assert worker == "large-one"


def test_packages_that_are_missing_do_no_harm_where_the_backend_can_run_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = Requirements(("one-of-another-name>=1",))
    monkeypatch.setattr(mock, "requirements", lambda has_gpu: wanted)
    with opened(tmp_path) as engine:
        assert engine.session.info.is_mock


def test_a_backend_that_cannot_run_here_is_refused_before_anything_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = Requirements(("one-of-another-name>=1",))
    monkeypatch.setattr(mock, "requirements", lambda has_gpu: wanted)
    found = Availability(False, reason="no such package", remedy="Install it.")
    monkeypatch.setattr(engine_module, "check_backend", lambda *_: found)
    with pytest.raises(EngineError, match="backend mock: no such package") as caught:
        plans(tmp_path)
    assert caught.value.remedy == "Install it."


def test_an_option_of_its_own_that_it_does_not_know_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="mock has no option speed") as caught:
        plans(tmp_path, backends={"mock": {"speed": 9}})
    assert "delay_ms" in caught.value.remedy
    entries: dict[str, dict[str, Any]] = {"fast": {"backend": "mock", "speed": 9}}
    with pytest.raises(UsageError, match=r"fast \(mock\) has no option speed"):
        check_options(spec(backend=("mock",), entries=entries))


def test_a_common_option_that_no_backend_knows_is_an_error() -> None:
    check_options(spec(backend=("mock", "llama-cpp"), engine={"threads": 1, "batch": 2}))
    with pytest.raises(UsageError, match="mock has no option threads"):
        check_options(spec(engine={"threads": 1, "batch": 2}))


def test_options_of_a_backend_that_is_not_there_are_an_error() -> None:
    with pytest.raises(UsageError, match="there is no backend 'mocking'"):
        check_options(spec(backends={"mocking": {"batch": 2}}))


def test_a_session_that_failed_is_followed_by_another(tmp_path: Path) -> None:
    with opened(tmp_path, engine={"crash_at": 1}) as engine:
        failed = engine.session
        with pytest.raises(WorkerFailedError):
            list(failed.generate([Prompt([1])], SCORE))
        busy = engine.busy_seconds
        engine.restart()
        assert engine.session is not failed
        assert engine.session.tokenize(["a"]) == [[97]]
        assert engine.busy_seconds > busy > 0


def test_an_engine_that_can_forget_is_cold_without_being_loaded_again(tmp_path: Path) -> None:
    with opened(tmp_path) as engine:
        session = engine.session
        list(session.generate([Prompt([1])], SCORE))
        engine.make_cold()
        assert engine.session is session
        assert session.is_cold


def test_an_engine_that_failed_is_cold_when_it_is_loaded_again(tmp_path: Path) -> None:
    with opened(tmp_path, engine={"crash_at": 1}) as engine:
        session = engine.session
        with pytest.raises(WorkerFailedError):
            list(session.generate([Prompt([1])], SCORE))
        engine.make_cold()
        assert engine.session is not session
        assert engine.session.is_cold


def test_an_engine_that_cannot_forget_is_loaded_again_where_it_was_prompted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(tmp_path) as engine:
        session = engine.session
        info = replace(session.info, capabilities=Capabilities(can_forget=False))
        monkeypatch.setitem(vars(session), "info", info)
        monkeypatch.setattr(type(session), "forget", lambda _: pytest.fail("it cannot"))
        engine.make_cold()
        assert engine.session is session  # it was cold
        list(session.generate([Prompt([1])], SCORE))
        engine.make_cold()
        assert engine.session is not session
        assert session.has_failed


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model's file, which the mock is made to have."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(mock, "FORMATS", ("gguf",))
    path = tmp_path / "my.gguf"
    path.write_bytes(b"GGUF weights")
    hour_ago = time.time() - 3600
    os.utime(path, (hour_ago, hour_ago))
    return path


def test_the_hash_is_that_of_the_file_and_is_there_before_anything_is_loaded(
    tmp_path: Path, weights: Path
) -> None:
    [plan] = plans(tmp_path, model=str(weights))
    assert plan.model_files == {str(weights): file_sha256(weights)}
    assert not psutil.Process().children()
    with Engine(plan, 100) as engine:
        assert engine.model_sha256 == plan.model_sha256 == file_sha256(weights)
        engine.restart()
        assert engine.session.tokenize(["a"]) == [[97]]


@pytest.mark.parametrize("change", ["other bytes", "is gone"])
def test_a_model_file_that_has_changed_is_an_error_at_the_next_start(
    tmp_path: Path, weights: Path, change: str
) -> None:
    [plan] = plans(tmp_path, model=str(weights))
    with Engine(plan, 100) as engine:
        _ = engine.session.info
        if change == "is gone":
            weights.unlink()
        else:
            weights.write_bytes(b"GGUF WEIGHTS")
        busy = engine.busy_seconds
        for start in (engine.restart, lambda: Engine(plan, 100)):
            with pytest.raises(EngineError, match=rf"mock: the model's file {weights} has changed"):
                start()
        assert engine.busy_seconds == busy
    assert not psutil.Process().children()


def test_a_folder_is_held_to_its_files_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weights: Path
) -> None:
    monkeypatch.setattr(mock, "FORMATS", ("hf",))
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    shard = folder / "model-2.safetensors"
    shutil.copy2(weights, shard)
    [plan] = plans(tmp_path, model=str(folder))
    with Engine(plan, 100) as engine:
        engine.load()
        (folder / "model-3.safetensors").write_bytes(b"more")
        with pytest.raises(EngineError, match=r"model-3\.safetensors has changed since"):
            engine.restart()
        (folder / "model-3.safetensors").unlink()
        engine.restart()
        engine.load()
        before = shard.stat()
        shard.write_bytes(b"GGUF WEIGHTS")  # of the same size, and the time set back
        os.utime(shard, ns=(before.st_atime_ns, before.st_mtime_ns))
        with pytest.raises(EngineError, match=r"model-2\.safetensors has changed since"):
            engine.restart()


def test_a_model_file_that_changes_while_it_is_loaded_is_an_error(
    tmp_path: Path, weights: Path
) -> None:
    [plan] = plans(tmp_path, model=str(weights))
    with Engine(plan, 100) as engine:  # its hash was compared; its worker has just been started
        other = tmp_path / "other"
        other.write_bytes(b"GGUF WEIGHTS")
        other.replace(weights)
        with pytest.raises(EngineError, match=rf"mock: the model's file {weights} has changed"):
            engine.load()
        assert not psutil.Process().children()


def dying(folder: Path, deaths: int) -> EnginePlan:
    """Of which so many workers die while they open it."""
    (folder / "dying.py").write_text(
        textwrap.dedent(
            f"""
            import os
            from pathlib import Path
            from backends import mock
            FORMATS, OPTIONS = mock.FORMATS, mock.OPTIONS
            def open_session(model, options):
                die()
                return mock.open_session(model, options)
            def open_tokenizer(model, options):
                die()
                return mock.open_tokenizer(model, options)
            def die():
                died = Path({str(folder)!r}, "died")
                deaths = len(died.read_text()) if died.exists() else 0
                if deaths < {deaths}:
                    died.write_text("x" * (deaths + 1))
                    os.kill(os.getpid(), 9)
            """
        )
    )
    [plan] = plans(folder)
    return replace(plan, target="dying")


@pytest.mark.parametrize("deaths", [0, 1, MOST_STARTS - 1])
def test_a_worker_that_dies_while_it_loads_is_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, deaths: int
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    with Engine(dying(tmp_path, deaths), 100) as engine:
        assert engine.load() == engine.session.info
        assert (tmp_path / "died").exists() == (deaths > 0)


def test_a_worker_that_always_dies_while_it_loads_is_not_started_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    with Engine(dying(tmp_path, 99), 100) as engine:
        with pytest.raises(WorkerDiedError, match=r"failed while it loaded: .*signal 9"):
            engine.load()
        assert len((tmp_path / "died").read_text()) == MOST_STARTS


@pytest.mark.parametrize("deaths", [MOST_STARTS - 1, MOST_STARTS])
def test_a_tokenizer_whose_worker_dies_is_opened_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, deaths: int
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    with closing(dying(tmp_path, deaths).open_tokenizer()) as tokenizer:
        if deaths < MOST_STARTS:
            assert tokenizer.tokenize(["a"]) == [[97]]
        else:
            with pytest.raises(WorkerDiedError, match=r"opened the tokenizer: .*signal 9"):
                _ = tokenizer.info
    assert not psutil.Process().children()


@pytest.mark.parametrize("failing", [True, False])
def test_no_process_outlives_the_with_statement(tmp_path: Path, failing: bool) -> None:
    class StopError(Exception):
        pass

    try:
        with opened(tmp_path) as engine:
            assert engine.session.info.is_mock
            if failing:
                raise StopError
    except StopError:
        pass
    assert not psutil.Process().children()
