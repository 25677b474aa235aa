"""Which sides the words of a command line name."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import get_type_hints

import pytest

from harness.cli.compare import Format, _named, compare
from harness.cli.kept import choose
from harness.errors import HarnessError, StoreError, UsageError
from harness.imports.records import ImportFile, ImportRow
from harness.store.store import Store
from tests.unit.report.conftest import Sample
from tests.unit.store.test_imports import ONE


@dataclass(frozen=True, slots=True)
class Kept:
    """A store with two finished runs, the newer over two backends, one unfinished, two imports."""

    store: Store
    folder: Path

    @property
    def run_ids(self) -> list[str]:
        """The oldest first."""
        return [row.run_id for row in reversed(self.store.runs())]

    def sides(self, *names: str) -> list[tuple[str, str]]:
        """Run and backend of each side, an import's with its tool for a backend."""
        return [
            (side.import_id, side.imported.tool)
            if isinstance(side, ImportRow)
            else (side[0].summary.run_id, side[1].backend)
            for side in _named(self.store, names, self.folder).sides
        ]


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Kept]:
    sample = Sample()
    with Store(tmp_path) as store:
        for runs in ([sample.run()], [sample.run(), sample.mock()]):
            backends = tuple(run.backend for run in runs)
            spec = sample.kept(backend=backends).spec
            run_id = store.create_run(spec.model_dump_json(), "{}")
            store.finish_run(run_id, sample.kept(*runs, run_id=run_id).summary.model_dump_json())
        store.create_run(spec.model_dump_json(), "{}")
        store.save_imports([ONE, ImportFile("two.json", "c" * 64, ONE.tests)])
        yield Kept(store, tmp_path)


def test_runs_go_by_their_ids_and_by_beginnings(kept: Kept) -> None:
    first, second, _ = kept.run_ids
    both = [(second, "llama-cpp"), (second, "mock")]
    assert kept.sides(first, second) == [(first, "llama-cpp"), *both]
    assert kept.sides(second, first) == [*both, (first, "llama-cpp")]
    assert kept.sides(first[:-1], second) == kept.sides(first, second)


def test_one_run_over_several_backends_will_do(kept: Kept) -> None:
    second = kept.run_ids[1]
    assert kept.sides(second) == [(second, "llama-cpp"), (second, "mock")]


def test_a_backend_of_a_run_is_named_behind_a_colon(kept: Kept) -> None:
    first, second, _ = kept.run_ids
    assert kept.sides(f"{second}:mock", first) == [(second, "mock"), (first, "llama-cpp")]
    assert kept.sides(f"{second}:mock", f"{second}:llama-cpp") == [
        (second, "mock"),
        (second, "llama-cpp"),
    ]


def test_the_latest_of_a_backend_is_the_newest_finished_run_that_has_it(kept: Kept) -> None:
    first, second, _ = kept.run_ids
    assert kept.sides("latest:mock", first) == [(second, "mock"), (first, "llama-cpp")]
    assert kept.sides("latest:llama-cpp", first)[0] == (second, "llama-cpp")
    with pytest.raises(StoreError, match="is not finished"):
        kept.sides("latest", first)


def test_imports_go_by_their_ids(kept: Kept) -> None:
    first = kept.run_ids[0]
    ids = f"import-{'a' * 10}", f"import-{'c' * 10}"
    assert kept.sides(first, ids[0]) == [(first, "llama-cpp"), (ids[0], "llama-bench")]
    assert kept.sides(ids[1][:-2], ids[0]) == [(ids[1], "llama-bench"), (ids[0], "llama-bench")]


@pytest.mark.parametrize(
    "names",
    [
        ["{0}"],
        ["{0}", "{0}"],
        ["{0}", "{0}:llama-cpp"],
        ["latest:mock", "{1}:mock"],
        ["import-a", "import-aa"],
    ],
)
def test_a_side_counts_once_and_one_is_too_few(kept: Kept, names: list[str]) -> None:
    with pytest.raises(UsageError, match="two runs or more, or one over several") as caught:
        kept.sides(*(name.format(*kept.run_ids) for name in names))
    assert "harness list" in caught.value.remedy


def test_runs_are_kept_once_however_many_of_their_backends_are_named(kept: Kept) -> None:
    first, second, _ = kept.run_ids
    named = _named(kept.store, [f"{second}:mock", first, second], kept.folder)
    assert [one.summary.run_id for one in named.kept] == [second, first]
    assert len(named.sides) == 3


@pytest.mark.parametrize(
    ("name", "said", "remedy"),
    [
        ("{0}:vllm", "has no backend 'vllm'", "It has: llama-cpp."),
        ("{1}:vllm", "has no backend 'vllm'", "It has: llama-cpp, mock."),
        ("latest:vllm", "no finished run has the backend 'vllm'", "harness list"),
        ("nothing", "nothing", "latest"),
        ("nothing:mock", "nothing", "latest"),
        ("import-x", "import-x", ""),
    ],
)
def test_what_is_not_there_is_an_error_that_says_what_is(
    kept: Kept, name: str, said: str, remedy: str
) -> None:
    with pytest.raises(StoreError, match=said) as caught:
        kept.sides(name.format(*kept.run_ids))
    assert remedy in caught.value.remedy


def test_a_colon_without_a_backend_means_all(kept: Kept) -> None:
    second = kept.run_ids[1]
    assert choose(kept.store, f"{second}:", kept.folder)[1] == ["llama-cpp", "mock"]


@pytest.mark.parametrize("output", [Format.CSV, Format.MD])
def test_json_and_another_format_exclude_each_other(tmp_path: Path, output: Format) -> None:
    with pytest.raises(UsageError, match="cannot go together"):
        compare(["a", "b"], output=output, results=tmp_path, json=True)


def test_a_folder_without_runs_is_an_error_and_stays_empty(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match="holds no runs"):
        compare(["a", "b"], results=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_help_tells_what_a_run_is_called() -> None:
    told = get_type_hints(compare, include_extras=True)["runs"].__metadata__[0].help
    assert all(word in told for word in ("latest", ":BACKEND", "Imports"))
