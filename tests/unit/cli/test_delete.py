from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from harness.cli.delete import delete
from harness.errors import StoreError, UsageError
from harness.machine.environment import describe_environment
from harness.pipeline.baselines import CHECKPOINTS, _trainings
from harness.spec import BaselineSpec
from harness.store.lock import prompting
from harness.store.runs import StoredRun
from harness.store.store import Store
from tests.unit.store.made import add_run
from tests.unit.store.test_imports import ONE


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "results") as opened:
        yield opened


@pytest.fixture
def results(store: Store) -> Path:
    return store.path.parent


def answer(monkeypatch: pytest.MonkeyPatch, agreed: bool) -> None:
    monkeypatch.setattr(typer, "confirm", lambda *_, **__: agreed)


def test_a_run_goes_after_a_yes(
    store: Store,
    results: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run_id, other = add_run(store, name="mine"), add_run(store)
    answer(monkeypatch, False)
    with pytest.raises(typer.Exit):
        delete("mine", results=results)
    assert len(store.runs()) == 2
    said = capsys.readouterr().err
    assert run_id in said
    assert "5 cells" in said
    answer(monkeypatch, True)
    delete("mine", results=results)
    assert [row.run_id for row in store.runs()] == [other]
    assert "Deleted 1 run with 5 cells" in capsys.readouterr().out
    assert not list(results.glob("*.lock"))


def test_checkpoints_go_with_the_last_run_that_could_go_on_with_them(
    store: Store, results: Path
) -> None:
    spec = BaselineSpec(baseline=("distilbert",))
    environment = describe_environment().model_dump_json()
    run_id = store.create_run(spec.model_dump_json(), environment, [], "dd")
    [name] = _trainings(StoredRun(store, store.run(run_id)))
    folder = results / CHECKPOINTS / name
    folder.mkdir(parents=True)
    delete(add_run(store), yes=True, results=results)
    assert folder.exists()
    delete(run_id, yes=True, results=results)
    assert not folder.parent.exists()


def test_without_an_answer_nothing_goes(
    store: Store, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nobody(*_: object, **__: object) -> None:
        raise typer.Abort

    monkeypatch.setattr(typer, "confirm", nobody)
    run_id = add_run(store)
    with pytest.raises(UsageError, match="there was no answer") as caught:
        delete(run_id, results=results)
    assert "--yes" in caught.value.remedy
    assert len(store.runs()) == 1


def test_a_group_goes_whole_and_logs_with_the_last_run_of_their_entry(
    store: Store, results: Path
) -> None:
    (results / "logs").mkdir()
    logs = [results / "logs" / name for name in ("mock.log", "other.log", "other.log.1")]
    for log in logs:
        log.touch()
    stays = add_run(store)
    for _ in range(2):
        add_run(store, group="curve", backend=("mock", "other"))
    delete("curve", yes=True, results=results)
    assert [row.run_id for row in store.runs()] == [stays]
    assert [log.exists() for log in logs] == [True, False, False]


def test_a_run_that_is_prompted_stays(store: Store, results: Path) -> None:
    run_id = add_run(store)
    with prompting(results, run_id), pytest.raises(StoreError, match="is in use"):
        delete(run_id, yes=True, results=results)
    assert len(store.runs()) == 1


def test_who_needs_the_prompts_is_named(
    store: Store, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_id = add_run(store)
    needs = add_run(store, finished=False, prompts_from=run_id)
    delete(run_id, yes=True, results=results)
    assert f"{needs} uses these prompts" in capsys.readouterr().err


def test_a_damaged_run_can_be_deleted(store: Store, results: Path) -> None:
    run_id = add_run(store)
    with store._write() as connection:
        connection.exec_driver_sql("UPDATE runs SET spec = '}'")
    delete(run_id, yes=True, results=results)
    assert store.runs() == []


def test_an_import_can_be_deleted(store: Store, results: Path) -> None:
    add_run(store)
    store.save_imports([ONE])
    delete("import-a", yes=True, results=results)
    assert store.imports() == []
    assert len(store.runs()) == 1
