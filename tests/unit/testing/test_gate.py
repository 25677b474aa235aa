"""Whole files against what was measured; the rest is seen in `tests/third_party`."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from harness.testing.evidence import EXTRA_INFO, Evidence
from harness.testing.gate import Saved, _load, compare
from harness.testing.limits import Limit
from tests.unit.testing.test_limits import PREFILL, evidence, samples

SLOW = evidence(samples=samples(seconds=2))
MACHINE = {"system": "Linux"}


def saved(**by_test: Evidence) -> Saved:
    return Saved("0001_base.json", MACHINE, by_test)


def test_a_regression_fails() -> None:
    report = compare(
        [saved(a=evidence(), b=evidence())], {"a": SLOW, "b": SLOW}, MACHINE, [PREFILL]
    )
    assert report.title == "2 regressions"
    assert report.is_failure
    assert report.lines[:2] == ("against 0001_base.json", "  a (MOCK)")
    assert report.lines[2].startswith("    REGRESSED prefill_tokens_per_second: 1,000 -> 500")


def test_without_one_it_passes_and_says_what_was_judged() -> None:
    report = compare([saved(a=evidence())], {"a": evidence()}, {"system": "Mac"}, [PREFILL])
    assert (report.title, report.is_failure) == ("no regressions", False)
    assert report.lines[1:] == (
        "  warning: system differs: Linux -> Mac",
        "  a (MOCK)",
        "    within limits: prefill_tokens_per_second",
    )


def test_a_test_that_was_not_saved_is_reported() -> None:
    measured = {"a": evidence(), "new": SLOW}
    report = compare([saved(a=evidence())], measured, MACHINE, [PREFILL])
    assert not report.is_failure
    assert report.lines[-2:] == ("  new (MOCK)", "    NOT IN THAT FILE: not compared")


def test_to_compare_nothing_that_was_measured_fails() -> None:
    report = compare([saved(a=evidence())], {"new": SLOW}, MACHINE, [PREFILL])
    assert (report.title, report.is_failure) == ("NOTHING TO COMPARE WITH", True)


def test_to_measure_nothing_fails() -> None:
    report = compare([saved(a=evidence())], {}, MACHINE, [PREFILL])
    assert (report.title, report.is_failure) == ("NOTHING WAS MEASURED", True)


def test_a_test_that_was_not_measured_is_reported() -> None:
    report = compare([saved(a=evidence(), gone=evidence())], {"a": evidence()}, MACHINE, [PREFILL])
    assert not report.is_failure
    assert report.lines[-1] == "  NOT MEASURED NOW: gone"


def test_every_file_that_was_chosen_counts() -> None:
    files = [saved(a=SLOW), saved(a=evidence())]
    report = compare(files, {"a": SLOW}, MACHINE, [PREFILL, Limit("accuracy", 1)])
    assert report.title == "1 regression"
    assert [line for line in report.lines if line.startswith("against")] == [
        "against 0001_base.json",
        "against 0001_base.json",
    ]


class Storage:
    def __init__(self, **files: Any) -> None:
        self._files = files

    def load(self, wanted: str = "") -> list[tuple[str, Any]]:
        return [(name, data) for name, data in self._files.items() if name.startswith(wanted)]

    def __str__(self) -> str:
        return "the storage"


def file_of(info: dict[str, Any]) -> dict[str, Any]:
    return {"machine_info": MACHINE, "benchmarks": [{"fullname": "a", "extra_info": info}]}


FILE = file_of({EXTRA_INFO: evidence().model_dump(mode="json")})


@pytest.mark.parametrize(
    ("chosen", "sources"),
    [([], ["new"]), (True, ["new"]), ("old", ["old"]), ("o", ["old", "other"])],
)
def test_the_newest_file_is_taken_or_those_that_were_chosen(
    chosen: object, sources: list[str]
) -> None:
    storage = Storage(old=FILE, other=FILE, new=FILE)
    loaded = _load(SimpleNamespace(compare=chosen, storage=storage))
    assert [one.source for one in loaded] == sources
    assert loaded[0].by_test == {"a": evidence()}


@pytest.mark.parametrize("storage", [Storage(), Storage(old=file_of({}))])
def test_without_a_file_to_compare_with_it_is_an_error(storage: Storage) -> None:
    with pytest.raises(pytest.UsageError, match=r"requires a saved benchmark .* the storage"):
        _load(SimpleNamespace(compare=[], storage=storage))


@pytest.mark.parametrize("version", [1, 3])  # nothing of version 1 but its number is there
def test_a_file_of_another_version_is_an_error(version: int) -> None:
    other = file_of({EXTRA_INFO: {"version": version}})
    with pytest.raises(pytest.UsageError, match="new was saved by another version"):
        _load(SimpleNamespace(compare=[], storage=Storage(new=other)))
