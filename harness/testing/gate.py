"""The gate in pytest: what pytest-benchmark saved before, against what this session measured.

Registered by `harness.testing.plugin` where limits are given.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from textwrap import indent
from typing import Any, TypeAlias

import pytest
from pydantic import ValidationError

from harness.report.text import plain
from harness.testing.evidence import EXTRA_INFO, Evidence, read_evidence
from harness.testing.limits import Finding, Limit, judge, parse_limits
from harness.testing.sentences import conditions, describe, machine_differences

_OPTION = "--harness-compare-fail"
_OFF = (
    f"{_OPTION} is not checked: benchmarks are disabled,",
    "by --benchmark-disable, --benchmark-skip or pytest-xdist.",
)

ByTest: TypeAlias = Mapping[str, Evidence]


@dataclass(frozen=True, slots=True)
class Saved:
    """One file of pytest-benchmark's; `machine` is its `machine_info`."""

    source: str
    machine: Mapping[str, Any]
    by_test: ByTest


@dataclass(frozen=True, slots=True)
class Judged:
    """A test against a saved file."""

    before: Evidence
    now: Evidence
    findings: Sequence[Finding]


@dataclass(frozen=True, slots=True)
class Report:
    """What the section at the end says, and whether the session fails by it."""

    title: str
    lines: tuple[str, ...]
    is_failure: bool = False


class Gate:
    """Loads what was saved before anything is measured, and judges when all is measured."""

    def __init__(self, config: pytest.Config, limits: str) -> None:
        self._config = config
        self._limits = list(parse_limits(limits).values())
        self._saved: list[Saved] = []
        self._report: Report | None = None

    @property
    def _benchmarks(self) -> Any:
        """pytest-benchmark's session; `None` where it is not installed."""
        return self._config.pluginmanager.get_plugin("pytest-benchmark")

    def pytest_sessionstart(self) -> None:
        benchmarks = self._benchmarks
        if benchmarks is None:
            raise pytest.UsageError(f"{_OPTION} needs pytest-benchmark. Install it.")
        if _is_off(benchmarks):
            self._report = Report("not checked", _OFF)

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Without any test to judge, nothing has to be saved: to list tests, or to run others."""
        to_run = [] if session.config.option.collectonly else session.items
        # Now, and not at the end: minutes of measuring should not end in "nothing to compare with".
        if self._report is None and any(_is_judged(item) for item in to_run):
            self._saved = _load(self._benchmarks)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        # No file was loaded: none of the tests that ran is judged, or the gate is off.
        if not self._saved:
            return
        measured = _measured(self._benchmarks)
        machine = self._benchmarks.get_machine_info()
        self._report = compare(self._saved, measured, machine, self._limits)
        # A session that failed or was interrupted has its own exit code.
        if self._report.is_failure and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    # The outermost wrapper, so that what comes after `yield` is printed last.
    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_terminal_summary(
        self, terminalreporter: pytest.TerminalReporter
    ) -> Generator[None, None, None]:
        """Below everything else, and even where pytest-benchmark's own gate raises."""
        try:
            yield
        finally:
            if self._report:
                title, failed = f"harness: {self._report.title}", self._report.is_failure
                terminalreporter.section(title, "=", red=failed, bold=True)
                for line in self._report.lines:
                    terminalreporter.write_line(plain(line))


def _is_off(benchmarks: Any) -> bool:
    return bool(benchmarks.disabled or benchmarks.skip)


def _is_judged(item: pytest.Item) -> bool:
    return "harness_run" in getattr(item, "fixturenames", ())


def _load(benchmarks: Any) -> list[Saved]:
    """The files that --benchmark-compare chose, or the newest. Raises `pytest.UsageError`."""
    chosen = benchmarks.compare
    if isinstance(chosen, str):
        files, wanted = list(benchmarks.storage.load(chosen)), f"matches {chosen!r}"
    else:
        # pytest-benchmark gives them in the order of their numbers.
        files, wanted = list(benchmarks.storage.load())[-1:], "is there"
    saved = [_read(str(path), data) for path, data in files]
    if not any(one.by_test for one in saved):
        raise pytest.UsageError(
            f"{_OPTION} requires a saved benchmark that used harness_run; none {wanted} in "
            f"{benchmarks.storage}. Save one with --benchmark-autosave."
        )
    return saved


def _read(source: str, data: Mapping[str, Any]) -> Saved:
    try:
        by_test = {
            one["fullname"]: read_evidence(one["extra_info"][EXTRA_INFO])
            for one in data["benchmarks"]
            if EXTRA_INFO in one["extra_info"]
        }
    except (ValidationError, LookupError, TypeError) as error:
        raise pytest.UsageError(
            f"{source} was saved by another version of llm-backend-harness. Save it again with "
            "--benchmark-autosave."
        ) from error
    return Saved(source, data["machine_info"], by_test)


def _measured(benchmarks: Any) -> ByTest:
    return {
        one.fullname: read_evidence(one.extra_info[EXTRA_INFO])
        for one in benchmarks.benchmarks
        if EXTRA_INFO in one.extra_info
    }


def compare(
    saved: Sequence[Saved], measured: ByTest, machine: Mapping[str, Any], limits: Sequence[Limit]
) -> Report:
    """Every test against every file that has it. Where nothing was measured, or nothing that a file
    has, that fails too: a gate that compares nothing must not look like one that is passed."""
    judged = {
        (file.source, test): Judged(before, now, judge(before, now, limits))
        for file in saved
        for test, now in measured.items()
        if (before := file.by_test.get(test))
    }
    found = sum(one.is_regression for every in judged.values() for one in every.findings)
    nothing = "NOTHING TO COMPARE WITH" if measured else "NOTHING WAS MEASURED"
    return Report(
        title=_title(found) if judged else nothing,
        lines=tuple(line for file in saved for line in _lines(file, measured, machine, judged)),
        is_failure=found > 0 or not judged,
    )


def _title(regressions: int) -> str:
    return f"{regressions or 'no'} regression{'' if regressions == 1 else 's'}"


def _lines(
    file: Saved,
    measured: ByTest,
    machine: Mapping[str, Any],
    judged: Mapping[tuple[str, str], Judged],
) -> Iterator[str]:
    yield f"against {file.source}"
    for line in machine_differences(file.machine, machine):
        yield indent(line, "  ")
    for test, now in measured.items():
        yield f"  {test}{' (MOCK)' if now.is_mock else ''}"
        one = judged.get((file.source, test))
        for line in _of_test(one) if one else ["NOT IN THAT FILE: not compared"]:
            yield indent(line, "    ")
    for test in file.by_test:
        if test not in measured:
            yield f"  NOT MEASURED NOW: {test}"


def _of_test(one: Judged) -> Iterator[str]:
    yield from describe(one.findings)
    yield from conditions(one.before, one.now)
