from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from harness.comparison.records import FieldDifference
from harness.comparison.series import Change, History, Machine, Point, Series
from harness.metrics import Outcome
from harness.record import Span
from harness.report.formats import as_csv
from harness.report.history import NEWEST, history_answer
from harness.report.text import NOTHING

MACHINE = Machine(cpu="EPYC", gpus=[], physical_cores=2, logical_cores=4, usable_cores=4)
CHANGE = Change(
    place=2,
    before="run-1",
    after="run-2",
    level_before=200.0,
    level_after=150.0,
    change=0.75,
    p_adjusted=0.0123,
    outcome=Outcome.WORSE,
    differing=[
        FieldDifference(field="git_revision", first="a" * 40, other="b" * 40 + "+dirty"),
        FieldDifference(field="options.threads", first=None, other=2),
    ],
)


def point(run: int, value: float = 200.0, **changes: Any) -> Point:
    plain = {
        "run_id": f"run-{run}",
        "created": "2026-01-02T12:00:00+00:00",
        "value": value,
        "interval": None,
        "engine_version": "engine 1.2",
        "git_revision": "0123456789" * 4,
    }
    return Point(**(plain | changes))


def series(*points: Point, **changes: Any) -> Series:
    plain = {
        "entry": "llama-cpp",
        "backend": "llama-cpp",
        "model": "small",
        "data_sha256": None,
        "is_mock": False,
        "spec": {"voters": 7, "max_model_len": 1024},
        "machine": MACHINE,
        "left_out": 0,
        "points": list(points),
        "changes": [],
    }
    return Series(**(plain | changes))


def history_of(*every: Series, metric: str = "prefill_tokens_per_second", **more: Any) -> History:
    plain = {"metric": metric, "unit": "tokens/s", "more_is_better": True, "unreadable": []}
    return History(**(plain | more), series=list(every))


def printed(*every: Series, everything: bool = False, **more: Any) -> str:
    history = history_of(*every, **more)
    file = io.StringIO()
    Console(file=file, width=80).print(history_answer(history, everything).parts)
    return file.getvalue()


def test_csv_without_a_run_has_its_columns() -> None:
    none, some = (
        as_csv(history_answer(history_of(*every), everything=False))
        for every in ((), (series(point(1)),))
    )
    assert none == some.splitlines(keepends=True)[0]
    assert none.startswith("series,metric,entry,")


def test_a_series_is_a_title_a_table_and_what_was_found() -> None:
    text = printed(series(point(1), point(2, 1234.0)))
    assert [line.rstrip() for line in text.splitlines()] == [
        "prefill_tokens_per_second (tokens/s; more is better)",
        "",
        "llama-cpp, small",
        "",
        "#  run    begun       value  revision  engine",
        "─────────────────────────────────────────────────",
        "1  run-1  2026-01-02    200  0123456   engine 1.2",
        "2  run-2  2026-01-02  1,234  0123456   engine 1.2",
        "",
        "It takes 10 runs or more to tell a change of level from noise.",
    ]


def test_a_run_is_shown_by_its_name_too() -> None:
    text = printed(series(point(1, name="before-the-change"), point(2)))
    [line] = [number for number, line in enumerate(text.splitlines()) if "before-the" in line]
    assert text.splitlines()[line + 1].strip() == "run-1"


def test_that_vectors_have_no_column_of_texts_is_not_said() -> None:
    texts = series(point(1), point(2), spec={"voters": 7, "text_column": "review"})
    vectors = series(point(3), point(4), spec={"voters": 5, "text_column": None})
    text = printed(texts, vectors)
    assert "llama-cpp, small: voters 7, text column review" in text
    assert "llama-cpp, small: voters 5\n" in "\n".join(line.rstrip() for line in text.splitlines())


def test_three_runs_have_a_chart() -> None:
    assert "run number" in printed(series(*map(point, range(3))))
    assert "run number" not in printed(series(*map(point, range(2))))


def test_a_change_names_both_runs_and_what_differs() -> None:
    text = " ".join(printed(series(*map(point, range(10)), changes=[CHANGE])).split())
    assert (
        "WORSE from run 3 on: 200 to 150 tokens/s (x 0.75), p = 0.012. "
        "The last before is run-1 (0123456, engine 1.2), "
        "the first after run-2 (0123456, engine 1.2). "
        "Between them differ: git_revision aaaaaaa / bbbbbbb+, "
        "options.threads none / 2." in text
    )
    assert "No change" not in text


def test_a_change_that_nothing_explains_says_so() -> None:
    change = CHANGE.model_copy(update={"differing": [], "change": None, "p_adjusted": 0.0001})
    text = printed(series(*map(point, range(10)), changes=[change]))
    assert "Nothing that is stored differs between them." in text
    assert "200 to 150 tokens/s, p < 0.001." in text


def test_no_change_in_enough_runs_is_said() -> None:
    assert "No change of level found." in printed(series(*map(point, range(10))))


def test_shares_have_intervals_and_differences() -> None:
    share = point(1, 0.8, interval=Span(low=0.7, high=0.9))
    change = CHANGE.model_copy(
        update={"level_before": 0.8, "level_after": 0.7, "change": -0.1, "place": 1}
    )
    text = printed(series(*[share] * 10, changes=[change]), metric="accuracy", unit="share")
    assert "0.80 (0.70 to 0.90)" in text
    assert "0.80 to 0.70 share (-0.10)" in text


def test_long_histories_show_the_newest_unless_all_are_wanted() -> None:
    long = series(*map(point, range(1, NEWEST + 3)))
    short, whole = printed(long), printed(long, everything=True)
    assert "2 runs before these: --all lists them." in short
    assert " run-2 " not in short
    assert "\n 3  run-3 " in short
    assert " run-2 " in whole
    assert "--all" not in whole


@pytest.mark.parametrize(("short", "many"), [(1, 2), (0, 2)])
def test_series_of_fewer_than_two_runs_are_counted_unless_all_are_wanted(
    short: int, many: int
) -> None:
    every = series(*map(point, range(many))), series(*map(point, range(short)), model="other")
    assert "llama-cpp, other" not in printed(*every)
    assert "Left out: 1 series of fewer than two runs; --all shows them." in printed(*every)
    assert "llama-cpp, other" in printed(*every, everything=True)


def test_series_are_told_apart_by_what_differs_and_no_more() -> None:
    points = point(1), point(2)
    elsewhere = MACHINE.model_copy(update={"gpus": ["H100", "H100"]})
    text = printed(
        series(*points),
        series(*points, spec={"voters": 7, "max_model_len": 2048}),
        series(*points, machine=elsewhere),
        series(*points, entry="mock", backend="mock", is_mock=True),
        series(*points, entry="fast"),
        series(*points, entry="slow", data_sha256="a" * 64),
        series(*points, entry="slow", data_sha256="b" * 64),
    )
    assert "\nllama-cpp, small: max model len 1024, gpus none\n" in text
    assert "\nllama-cpp, small: max model len 2048, gpus none\n" in text
    assert "\nllama-cpp, small: max model len 1024, gpus H100, H100\n" in text
    assert "\nmock, small MOCK\n" in text
    assert "\nfast, llama-cpp, small\n" in text
    assert "\nslow, llama-cpp, small: data sha256 aaaaaaa\n" in text
    assert "\nslow, llama-cpp, small: data sha256 bbbbbbb\n" in text


def test_what_is_left_out_is_counted() -> None:
    text = printed(series(point(1), point(2), left_out=1), unreadable=["a", "b"])
    assert "Left out: 1 run that prefill_tokens_per_second does not apply to." in text
    assert "Left out: 2 runs that cannot be read." in text
    assert "There is no finished run yet." in printed()


def test_an_engine_that_is_not_known_is_a_dash() -> None:
    text = printed(series(point(1, engine_version=None), point(2)))
    assert [line.split()[-1] for line in text.splitlines()[6:8]] == [NOTHING, "1.2"]


def test_a_revision_with_other_changes_is_marked() -> None:
    dirty = "0123456789" * 4 + "+dirty"
    text = printed(series(point(1, git_revision=dirty), point(2, git_revision=None)))
    assert " 0123456+ " in text
    assert "A + behind a revision: not all changes were committed." in text
