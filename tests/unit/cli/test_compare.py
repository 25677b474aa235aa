"""Which sides the words of a command line name."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any, get_type_hints

import pytest

import harness.comparison.compare
from harness.cli.compare import compare
from harness.cli.options import Format
from harness.comparison.records import Compared
from harness.errors import HarnessError, StoreError, UsageError
from harness.imports.records import ImportFile, ImportRow
from harness.store.runs import Side
from tests.unit.cli.conftest import Shelf
from tests.unit.report.conftest import Sample
from tests.unit.store.test_imports import ONE

NOTHING_FOUND: dict[str, Any] = {
    "runs": [],
    "imports": [],
    "against_first": [],
    "same_accuracy_p": None,
    "leads": [],
    "agreements": [],
}


class Named:
    """Two finished runs, the newer of two entries, one unfinished, and two imports; and what a
    comparison of names is over."""

    def __init__(self, shelf: Shelf, sample: Sample, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = shelf.folder
        self.found: list[tuple[str, str]] = []
        # Drawn ones may begin alike, of runs of one second.
        ends = (f"{n:x}000" for n in count())
        monkeypatch.setattr("harness.store.store.secrets.token_hex", lambda _: next(ends))
        self.run_ids = [
            shelf.add(sample.run()),
            shelf.add(sample.run(), sample.mock()),
            shelf.add(sample.run(), sample.mock(), finished=False),
        ]
        shelf.store.save_imports([ONE, ImportFile("two.json", "c" * 64, ONE.tests)])
        monkeypatch.setattr(harness.comparison.compare, "compare", self._note)

    def _note(self, sides: Sequence[Side]) -> Compared:
        self.found = [
            (side.import_id, side.imported.tool)
            if isinstance(side, ImportRow)
            else (side.run.run_id, side.name)
            for side in sides
        ]
        return Compared(**NOTHING_FOUND)

    def sides(self, *names: str) -> list[tuple[str, str]]:
        """Run and entry of each side, an import's with its tool for an entry."""
        compare(list(names), results=self.folder, json=True)
        return self.found


@pytest.fixture
def named(shelf: Shelf, sample: Sample, monkeypatch: pytest.MonkeyPatch) -> Named:
    return Named(shelf, sample, monkeypatch)


def test_runs_go_by_their_ids_and_by_beginnings(named: Named) -> None:
    first, second, _ = named.run_ids
    both = [(second, "llama-cpp"), (second, "mock")]
    assert named.sides(first, second) == [(first, "llama-cpp"), *both]
    assert named.sides(second, first) == [*both, (first, "llama-cpp")]
    assert named.sides(first[:-1], second) == named.sides(first, second)


def test_one_run_of_several_entries_will_do(named: Named) -> None:
    second = named.run_ids[1]
    assert named.sides(second) == [(second, "llama-cpp"), (second, "mock")]


def test_an_entry_of_a_run_is_named_behind_a_colon(named: Named) -> None:
    first, second, _ = named.run_ids
    assert named.sides(f"{second}:mock", first) == [(second, "mock"), (first, "llama-cpp")]
    assert named.sides(f"{second}:mock", f"{second}:llama-cpp") == [
        (second, "mock"),
        (second, "llama-cpp"),
    ]


def test_the_latest_of_an_entry_is_the_newest_finished_run_that_has_it(named: Named) -> None:
    first, second, _ = named.run_ids
    assert named.sides("latest:mock", first) == [(second, "mock"), (first, "llama-cpp")]
    assert named.sides("latest:llama-cpp", first)[0] == (second, "llama-cpp")


def test_imports_go_by_their_ids(named: Named) -> None:
    first = named.run_ids[0]
    ids = f"import-{'a' * 10}", f"import-{'c' * 10}"
    assert named.sides(first, ids[0]) == [(first, "llama-cpp"), (ids[0], "llama-bench")]
    assert named.sides(ids[1][:-2], ids[0]) == [(ids[1], "llama-bench"), (ids[0], "llama-bench")]


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
def test_a_side_counts_once_and_one_is_too_few(named: Named, names: list[str]) -> None:
    with pytest.raises(UsageError, match="two runs or more, or one with several") as caught:
        named.sides(*(name.format(*named.run_ids) for name in names))
    assert "harness list" in caught.value.remedy


@pytest.mark.parametrize(
    ("name", "said", "remedy"),
    [
        ("{0}:vllm", "has no entry or baseline 'vllm'", "It has: llama-cpp, "),
        ("{1}:vllm", "has no entry or baseline 'vllm'", "It has: llama-cpp, mock, "),
        ("latest:vllm", "no finished run has the entry or baseline 'vllm'", "harness list"),
        ("nothing", "nothing", "latest"),
        ("nothing:mock", "nothing", "latest"),
        ("import-x", "import-x", ""),
    ],
)
def test_what_is_not_there_is_an_error_that_says_what_is(
    named: Named, name: str, said: str, remedy: str
) -> None:
    with pytest.raises(StoreError, match=said) as caught:
        named.sides(name.format(*named.run_ids))
    assert remedy in caught.value.remedy


def test_a_colon_without_an_entry_means_all(named: Named) -> None:
    second = named.run_ids[1]
    assert named.sides(f"{second}:") == [(second, "llama-cpp"), (second, "mock")]


@pytest.mark.parametrize("spoil", ["make_newer", "damage"])
def test_a_run_that_cannot_be_read_is_an_error(shelf: Shelf, sample: Sample, spoil: str) -> None:
    first, second = shelf.add(sample.run()), shelf.add(sample.run())
    getattr(shelf, spoil)(second)
    with pytest.raises(StoreError, match=f"run {second} "):
        compare([second, first], results=shelf.folder)


def test_an_unfinished_run_is_an_error(shelf: Shelf, sample: Sample) -> None:
    first, second = shelf.add(sample.run()), shelf.add(sample.run(), finished=False)
    with pytest.raises(StoreError, match="is not finished"):
        compare([second, first], results=shelf.folder)


@pytest.mark.parametrize("other", [Format.CSV, Format.MD])
def test_json_and_another_format_exclude_each_other(tmp_path: Path, other: Format) -> None:
    with pytest.raises(UsageError, match="--json and --format differ"):
        compare(["a", "b"], format_=other, results=tmp_path, json=True)


@pytest.mark.parametrize("old", list(Format))
def test_an_output_that_was_a_format_once_names_the_new_flag(tmp_path: Path, old: Format) -> None:
    with pytest.raises(UsageError, match="names a file now") as caught:
        compare(["a", "b"], output=old.value, results=tmp_path)
    assert caught.value.remedy == f"Give --format {old.value}."


def test_a_folder_without_runs_is_an_error_and_stays_empty(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match="holds no runs"):
        compare(["a", "b"], results=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_help_tells_what_a_run_is_called() -> None:
    told = get_type_hints(compare, include_extras=True)["runs"].__metadata__[0].help
    assert all(word in told for word in ("latest", ":ENTRY", "import"))
