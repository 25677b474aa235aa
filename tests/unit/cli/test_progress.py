from __future__ import annotations

from dataclasses import replace

import pytest

import harness.cli.progress
from harness.bench.timing import Update as BenchUpdate
from harness.cli.progress import BenchWatch, Watch, describe
from harness.pipeline.prompting import Update

UPDATE = Update("20260102-030405-7f3a", "mock", total=24, done=8, failed=0, prompt_tokens=4000)


def test_rate_counts_prompt_tokens() -> None:
    assert describe(UPDATE, seconds=2.0) == "2,000 prompt tokens/s"


def test_failures_are_told_and_no_time_is_no_rate() -> None:
    failing = replace(UPDATE, failed=3)
    assert describe(failing, seconds=2.0) == "3 failed, 2,000 prompt tokens/s"
    assert describe(failing, seconds=0.0) == "3 failed"


class Clock:
    seconds = 0.0

    def monotonic(self) -> float:
        return self.seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(harness.cli.progress, "time", found)
    return found


@pytest.mark.parametrize(
    ("shown", "lines"),
    [
        (True, ["mock: 18/24 cells, 2 failed, 571 prompt tokens/s", "[x]: 24/24 cells"]),
        (False, []),
    ],
)
def test_without_a_terminal_a_line_now_and_then(
    capsys: pytest.CaptureFixture[str], clock: Clock, shown: bool, lines: list[str]
) -> None:
    with Watch(shown) as watch:
        clock.seconds = 5
        watch(UPDATE)
        clock.seconds = 12
        watch(replace(UPDATE, done=16, failed=2))
        clock.seconds = 21
        watch(replace(UPDATE, done=20, failed=2))
        clock.seconds = 22
        watch(replace(UPDATE, entry="[x]", done=24))
    out, said = capsys.readouterr()
    assert (out, said.splitlines()) == ("", lines)


@pytest.mark.parametrize("shown", [True, False])
def test_no_terminal_no_bar(capsys: pytest.CaptureFixture[str], clock: Clock, shown: bool) -> None:
    with Watch(shown) as watch:
        assert watch.run_id is None
        watch(UPDATE)
        watch(replace(UPDATE, done=24))
        watch(replace(UPDATE, entry="other"))
    assert watch.run_id == UPDATE.run_id
    assert capsys.readouterr() == ("", "")


def test_an_engine_that_loads_is_named(capsys: pytest.CaptureFixture[str], clock: Clock) -> None:
    with Watch(shown=True) as watch:
        clock.seconds = 11
        watch(replace(UPDATE, done=0, prompt_tokens=0, loading=True))
        assert watch.run_id == UPDATE.run_id
        clock.seconds = 12
        watch(UPDATE)
        clock.seconds = 22
        watch(replace(UPDATE, entry="other", loading=True))
    assert capsys.readouterr().err.splitlines() == ["loading mock", "loading other"]


def test_loading_is_not_counted_into_the_rate(
    capsys: pytest.CaptureFixture[str], clock: Clock
) -> None:
    with Watch(shown=True) as watch:
        watch(replace(UPDATE, done=0, prompt_tokens=0, loading=True))
        clock.seconds = 8
        watch(replace(UPDATE, done=0, prompt_tokens=0))
        clock.seconds = 12
        watch(UPDATE)
    assert capsys.readouterr().err == "mock: 8/24 cells, 1,000 prompt tokens/s\n"


def test_terminal_sees_progress_on_stderr_only(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # what makes rich take any stream for a terminal
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    with Watch(shown=True) as watch:
        watch(replace(UPDATE, entry="[red]mock\x07", failed=2))
    out, said = capsys.readouterr()
    assert out == ""
    assert "[red]mock" in said
    assert "10/24" in said
    assert "2 failed" in said
    assert "\x07" not in said


BENCH_UPDATE = BenchUpdate("mock", "pp512 @ d4096", repetition=0, done=6, total=12)


def test_a_bench_tells_its_test_and_repetition(
    capsys: pytest.CaptureFixture[str], clock: Clock
) -> None:
    with BenchWatch(shown=True) as watch:
        watch(BENCH_UPDATE)
        clock.seconds = 11
        watch(BENCH_UPDATE)
        clock.seconds = 12
        watch(replace(BENCH_UPDATE, repetition=1, done=7))
        clock.seconds = 22
        watch(replace(BENCH_UPDATE, repetition=2, done=8))
    out, said = capsys.readouterr()
    assert (out, said.splitlines()) == (
        "",
        [
            "mock: 6/12 repetitions, pp512 @ d4096: warm-up",
            "mock: 8/12 repetitions, pp512 @ d4096: 2",
        ],
    )


def test_a_terminal_sees_a_bench_within_80_columns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    with BenchWatch(shown=True) as watch:
        watch(replace(BENCH_UPDATE, entry="llama-cpp", test="pp512 @ d16384"))
    out, said = capsys.readouterr()
    assert out == ""
    assert "pp512 @ d16384: warm-up" in said
    assert "6/12" in said
