from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.errors import StoreError, UsageError
from harness.spec import RunSpec
from harness.store.names import check_name
from harness.store.runs import Results
from harness.store.store import Store
from tests.unit.store.test_runs import begin


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path) as opened:
        yield opened


def named(store: Store, name: str | None) -> str:
    return store.create_run(RunSpec(backend=("mock",)).model_dump_json(), "{}", [], None, name=name)


@pytest.mark.parametrize("name", ["q4", "Über-uns.2@x+y", "f" * 100])
def test_a_name_begins_with_a_letter(name: str) -> None:
    check_name(name)


@pytest.mark.parametrize(
    "name",
    [
        *("", "2026", "20261126-120000-7f3a", "-x", "a b", "a:b", "a/b", "../x", "a\n", "a" * 101),
        *("latest", "import-7d89", "\x1b[31m"),
    ],
)
def test_what_could_mean_something_else_is_no_name(name: str) -> None:
    with pytest.raises(UsageError, match="cannot be called"):
        check_name(name)


def test_a_run_is_found_by_its_whole_name(store: Store) -> None:
    run_id = named(store, "many-shots")
    later = named(store, None)
    assert store.run("many-shots").run_id == run_id
    assert store.run("latest").run_id == later
    with Results(store.path.parent) as results:
        assert results.run("many-shots").name == "many-shots"
        with pytest.raises(StoreError, match="begins with 'many', or that are called so") as caught:
            results.run("many")
    assert "many-shots" in caught.value.remedy


def test_each_run_is_offered_once(store: Store) -> None:
    named(store, "csv80")
    with pytest.raises(StoreError) as caught:
        store.run("csv8")
    assert caught.value.remedy.count("csv80") == 1


def test_a_name_is_used_once(store: Store) -> None:
    run_id = named(store, "mine")
    begin(store, group="curve")
    for used in ("mine", "curve", run_id):
        with pytest.raises(UsageError, match="is used already"):
            named(store, used)
    assert len(store.runs()) == 2
    named(store, None), named(store, None)  # any number without one
