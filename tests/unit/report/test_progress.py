from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

import harness.report.progress
from harness.bench.timing import Update as BenchUpdate
from harness.pipeline.prompting import Update
from harness.report.progress import (
    BenchWatch,
    Cell,
    Log,
    Nowhere,
    Part,
    Terminal,
    Watch,
    notebook_outlet,
    outlet_of,
    share_done,
)

RUN = "20260102-030405-7f3a"
UPDATE = Update(RUN, "mock", total=24, done=8, failed=0, prompt_tokens=4000, expected_tokens=9000)
BEGUN = replace(UPDATE, done=0, prompt_tokens=0)
LOADING = replace(BEGUN, stage="loading (reading the weights)")


class Clock:
    seconds = 0.0

    def monotonic(self) -> float:
        return self.seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(harness.report.progress, "time", found)
    return found


class Written:
    """A log, or a terminal, of so many columns."""

    def __init__(self, columns: int = 80, terminal: bool = False) -> None:
        self._file = io.StringIO()
        self.console = Console(
            file=self._file, width=columns, height=24, force_terminal=terminal, color_system=None
        )

    @property
    def lines(self) -> list[str]:
        return self._file.getvalue().splitlines()


def test_a_log_gets_a_line_now_and_then_of_what_goes_on_then(clock: Clock) -> None:
    written = Written()
    steps: list[tuple[float, Update]] = [
        (5, LOADING),
        (12, LOADING),
        (13, BEGUN),
        (24, replace(UPDATE, done=6, failed=2)),
        (25, UPDATE),
        (40, replace(UPDATE, entry="[x]", done=24)),
    ]
    with Watch(Log(written.console)) as watch:
        assert watch.run_id is None
        for clock.seconds, update in steps:
            watch(update)
    assert watch.run_id == RUN
    assert written.lines == [
        "mock: loading (reading the weights), 7 s",
        "mock: 8/24 prompts, 2 failed, 4,000/9,000 tokens, 364 tokens/s, 39 %, 11 s, "
        "about 17 s left",
        "[x]: 24/24 prompts",
    ]
    assert not any("\x1b" in line or "\r" in line for line in written.lines)


def test_lines_of_long_work_come_less_often(clock: Clock) -> None:
    written = Written()
    with Watch(Log(written.console)) as watch:
        watch(BEGUN)
        for clock.seconds in range(3600):
            watch(UPDATE)
    assert 60 <= len(written.lines) <= 90


def test_a_log_goes_on_while_an_engine_says_nothing() -> None:
    """Time passes by itself: the thread says what the last update was."""
    written = Written()
    log = Log(written.console)
    with Watch(log) as watch:
        watch(LOADING)
        log._last -= 60
        for _ in range(100):
            if written.lines:
                break
            watch._ends.wait(0.1)
    assert written.lines[0].startswith("mock: loading")


def test_before_the_first_reply_the_tokens_move(clock: Clock) -> None:
    written = Written()
    with Watch(Log(written.console)) as watch:
        watch(BEGUN)
        clock.seconds = 10
        watch(replace(BEGUN, prompt_tokens=900))
    assert written.lines == [
        "mock: 0/24 prompts, 900/9,000 tokens, 90.0 tokens/s, 5 %, 10 s, about 3 min 10 s left"
    ]


@pytest.mark.parametrize(
    ("update", "share"),
    [
        (UPDATE, (4 / 9 + 2 / 18) / 2),
        (replace(UPDATE, done=24, prompt_tokens=20_000), 1.0),  # shares less than it could
        (replace(UPDATE, done=15, prompt_tokens=0), 0.5),  # reports no tokens
        (replace(UPDATE, done=6), (4 / 9) / 2),
    ],
)
def test_the_share_is_of_what_was_open(update: Update, share: float) -> None:
    """As 6 prompts had a reply before, of a run that is resumed."""
    assert share_done(update, replace(BEGUN, done=6)) == pytest.approx(share)


def test_a_short_time_is_no_ground_for_an_estimate(clock: Clock) -> None:
    with Watch(Nowhere()) as watch:
        watch(BEGUN)
        clock.seconds = 0.5
        watch(UPDATE)
        [part] = watch.parts()
    assert part.line == "mock: 8/24 prompts, 4,000/9,000 tokens, 39 %, 0 s"


def test_until_a_tenth_is_done_earlier_runs_say_how_long(clock: Clock) -> None:
    watch = Watch(Nowhere())
    watch(replace(LOADING, forecast_seconds=200.0))
    assert watch.parts()[0].line.endswith(", 0 s; about 3 min 20 s in all, by earlier runs")
    watch(replace(BEGUN, forecast_seconds=200.0))
    assert "about 3 min 20 s left" in watch.parts()[0].line
    clock.seconds = 30.0
    watch(replace(UPDATE, forecast_seconds=200.0))
    assert "about 47 s left" in watch.parts()[0].line  # 7/18 took 30 s


def test_seconds_of_loading_go_on_over_its_stages(clock: Clock) -> None:
    with Watch(Nowhere()) as watch:
        watch(replace(LOADING, stage="loading"))
        clock.seconds = 30
        watch(LOADING)
        assert watch.parts() == [Part("mock: loading (reading the weights), 30 s")]
        watch(BEGUN)
        assert watch.parts()[0].text == "mock: 0/24 prompts"


@pytest.mark.parametrize("columns", [40, 80])
def test_on_a_terminal_nothing_is_cut(columns: int) -> None:
    written = Written(columns, terminal=True)
    entry = "[red]" + "long-name-" * 6 + "\x07"
    with Watch(Terminal(written.console, moves=False)) as watch:
        watch(replace(UPDATE, entry=entry, failed=2))
    shown = "".join(written.lines)
    whole = shown.replace(" ", "")
    assert "[red]" + "long-name-" * 6 in whole.replace("\n", "")
    assert "10/24prompts,2failed,4,000/9,000tokens" in whole
    assert "\x07" not in shown
    assert "…" not in shown


@pytest.mark.parametrize(
    ("shown", "terminal", "kind"),
    [(True, True, Terminal), (True, False, Log), (False, True, Nowhere), (False, False, Nowhere)],
)
def test_quiet_is_silent_and_a_file_gets_lines(shown: bool, terminal: bool, kind: type) -> None:
    assert type(outlet_of(Written(terminal=terminal).console, shown)) is kind


def test_a_notebook_has_one_output_that_changes(clock: Clock) -> None:
    shown: list[str] = []

    class Handle:
        def update(self, bundle: dict[str, str], raw: bool) -> None:
            assert raw
            shown.append(bundle["text/plain"])

    def display(bundle: dict[str, str], raw: bool, display_id: bool) -> Handle:
        assert raw
        assert display_id
        shown.append(bundle["text/plain"])
        return Handle()

    with Watch(Cell(display)) as watch:
        clock.seconds = 3
        watch(LOADING)
        clock.seconds = 3.1
        watch(replace(LOADING, stage="loading"))  # too soon after the other
        watch(UPDATE)
        watch(replace(LOADING, entry="baselines", stage="fitting"))
    assert shown == [
        "preparing the prompts, 0 s",
        "mock: loading (reading the weights), 0 s",
        "mock: 8/24 prompts, 4,000/9,000 tokens, 22 %, 0 s",  # no stage stays behind
    ]


def test_outside_of_a_notebook_nothing_is_shown() -> None:
    assert type(notebook_outlet()) is Nowhere


BENCH_UPDATE = BenchUpdate("mock", "pp512 @ d4096", repetition=0, done=6, total=12)


@pytest.mark.parametrize(("repetition", "what"), [(0, "warm-up"), (3, "3")])
def test_a_bench_tells_its_test_and_repetition(repetition: int, what: str) -> None:
    with BenchWatch(Nowhere()) as watch:
        assert watch.parts() == [Part("loading")]
        watch(replace(BENCH_UPDATE, repetition=repetition))
        assert watch.parts() == [Part("mock: 6/12 repetitions", 0.5, f"pp512 @ d4096: {what}")]


def test_a_bench_is_drawn_at_news_only() -> None:
    written = Written(terminal=True)
    with BenchWatch(outlet_of(written.console, shown=True, moves=False)) as watch:
        before = len(written.lines)
        watch(BENCH_UPDATE)
        assert len(written.lines) > before


def test_a_stage_that_something_came_after_is_shown_no_more() -> None:
    watch = Watch(Nowhere())
    watch(replace(BEGUN, entry="prompts", stage="packed"))
    watch(LOADING)
    assert [part.text for part in watch.parts()] == ["mock: loading (reading the weights), 0 s"]
    watch(replace(UPDATE, done=24))
    watch(replace(LOADING, entry="hf"))
    assert [part.text.partition(",")[0] for part in watch.parts()] == [
        "mock: 24/24 prompts",
        "hf: loading (reading the weights)",
    ]
