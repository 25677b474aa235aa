from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.exc import IntegrityError

from harness.errors import StoreError
from harness.imports.records import Figure, Imported, ImportFile
from harness.store.store import Store

SPEED = Figure(
    metric="prefill_tokens_per_second", unit="tokens/s", value=400.5, samples=(400.0, 401.0)
)
TEST = Imported(
    tool="llama-bench",
    tool_version="0123abc",
    engine="llama.cpp",
    model="tiny.gguf",
    test="pp64",
    figures=(SPEED,),
    conditions={"n_threads": "2"},
)
ONE = ImportFile("one.json", "a" * 64, (TEST,))
MANY = ImportFile(
    "many.json",
    "b" * 64,
    tuple(TEST.model_copy(update={"test": f"pp{number}"}) for number in range(1, 12)),
)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "results") as opened:
        yield opened


def ids(store: Store) -> list[str]:
    return [row.import_id for row in store.imports()]


def test_an_import_comes_back_as_it_was(store: Store) -> None:
    assert store.save_imports([ONE]) == []
    [row] = store.imports()
    assert row.imported == TEST
    assert (row.name, row.file_name, row.file_sha256) == ("one.json", "one.json", "a" * 64)
    assert row.import_id == f"import-{'a' * 10}"
    assert row.created.endswith("+00:00")
    assert row.by_metric == {SPEED.metric: SPEED}


def test_the_users_name_is_stored_beside_the_files(store: Store) -> None:
    store.save_imports([ONE], "the server")
    assert (store.imports()[0].name, store.imports()[0].file_name) == ("the server", "one.json")


def test_the_same_content_is_stored_once_whatever_its_name(store: Store) -> None:
    twin = replace(ONE, name="twin.json")
    assert store.save_imports([ONE, twin]) == [twin]
    assert store.save_imports([twin, MANY], "again") == [twin]
    assert [row.file_name for row in store.imports()] == ["many.json"] * 11 + ["one.json"]


def test_the_newest_come_first_and_those_of_a_file_in_order(store: Store) -> None:
    store.save_imports([ONE])
    store.save_imports([MANY])
    expected = [f"import-{'b' * 10}-{number}" for number in range(1, 12)]
    assert ids(store) == [*expected, f"import-{'a' * 10}"]


def test_ids_are_the_same_in_every_folder(store: Store, tmp_path: Path) -> None:
    store.save_imports([ONE, MANY])
    with Store(tmp_path / "other") as other:
        other.save_imports([ONE, MANY])
        assert ids(other) == ids(store)


def test_an_import_is_found_by_a_beginning_that_is_its_own(store: Store) -> None:
    store.save_imports([ONE, MANY])
    assert store.imported("import-a").imported == TEST
    assert store.imported(f"import-{'b' * 10}-1").imported.test == "pp1"
    assert store.imported(f"import-{'b' * 10}-11").imported.test == "pp11"
    with pytest.raises(StoreError, match="holds 11 imports whose id begins with 'import-b'"):
        store.imported("import-b")
    with pytest.raises(StoreError, match="holds no imports whose") as caught:
        store.imported("import-x")
    assert "latest" not in caught.value.remedy


def test_a_store_without_imports_says_so(store: Store) -> None:
    with pytest.raises(StoreError, match="holds no imports") as caught:
        store.imported("import-a")
    assert "harness import" in caught.value.remedy


def test_either_all_files_are_stored_or_none(store: Store) -> None:
    # equal beginnings of two hashes: the second file cannot have its ids
    clash = replace(ONE, name="clash.json", sha256="a" * 63 + "b")
    with pytest.raises(IntegrityError, match="UNIQUE"):
        store.save_imports([MANY, ONE, clash])
    assert store.imports() == []


def test_runs_and_imports_do_not_see_each_other(store: Store) -> None:
    store.save_imports([ONE])
    assert store.runs() == []
    run_id = store.create_run("{}", "{}", [], None)
    assert store.run("latest").run_id == run_id
    assert not run_id.startswith("import-")


TEXTS = st.text(st.characters(), max_size=8)  # lone surrogates too
FINITE = st.floats(allow_nan=False, allow_infinity=False)
FIGURES = st.builds(
    Figure,
    metric=TEXTS,
    unit=TEXTS,
    value=FINITE,
    stderr=st.none() | FINITE,
    count=st.none() | st.integers(),
    samples=st.lists(FINITE, max_size=3).map(tuple),
)


@given(st.lists(FIGURES, max_size=3), st.dictionaries(TEXTS, TEXTS, max_size=2))
def test_any_figure_comes_back(
    tmp_path_factory: pytest.TempPathFactory, figures: list[Figure], conditions: dict[str, str]
) -> None:
    imported = TEST.model_copy(update={"figures": tuple(figures), "conditions": conditions})
    with Store(tmp_path_factory.mktemp("any")) as store:
        store.save_imports([replace(ONE, tests=(imported,))])
        assert store.imports()[0].imported == imported
