from __future__ import annotations

import io
from dataclasses import replace
from typing import TYPE_CHECKING

from rich.console import Console

from harness.report.answer import Kept, answer, notes, what_was_asked
from harness.report.text import NOTHING

if TYPE_CHECKING:
    from tests.unit.report.conftest import Sample


def printed(kept: Kept) -> str:
    file = io.StringIO()
    Console(file=file, width=160).print(answer(kept, 160))
    return file.getvalue()


def test_answer_says_what_was_asked_and_how_it_went(sample: Sample) -> None:
    text = printed(sample.kept(voters=2, queries=8, seed=4))
    assert (
        "Run 20260102-030405-7f3a: digits; smollm2-135m; 2 voters x 8 queries; free decoding; "
        "seed 4" in text
    )
    assert "Soft vote: 0.63 (0.53 to 0.73) on 8 queries; chance is 0.50." in text
    assert "Soft vote by number of voters: 1: 0.61  2: 0.63" in text
    assert "Took 10.0 s, 25 % of it outside the engine." in text


def test_all_controls_are_there_with_intervals(sample: Sample) -> None:
    text = printed(sample.kept())
    for line in (
        "logistic regression, same numbers  0.70 (0.60 to 0.80)",
        "random forest, all features        0.80 (0.70 to 0.90)",
        "logistic regression, all features  0.60 (0.50 to 0.70)",
        "the most frequent class            0.50 (0.40 to 0.60)",
    ):
        assert line in text


def test_one_is_not_called_several(sample: Sample) -> None:
    run = sample.run(accuracy=sample.accuracy(queries=1))
    asked = what_was_asked(sample.kept(run, voters=1)).plain
    assert "1 voter x 1 query;" in asked


def test_queries_are_those_that_there_were(sample: Sample) -> None:
    assert " x 8 queries;" in what_was_asked(sample.kept(queries=100)).plain


def test_a_run_of_an_earlier_runs_prompts_says_which(sample: Sample) -> None:
    again = what_was_asked(sample.kept(prompts_from="20260101-000000-abcd")).plain
    assert again.splitlines()[-1] == "Its prompts are those of run 20260101-000000-abcd."
    assert "prompts" not in what_was_asked(sample.kept()).plain


def test_a_vote_without_a_verdict_is_a_dash(sample: Sample) -> None:
    run = sample.run(accuracy=sample.accuracy(headline="majority"))
    assert f"Majority vote by number of voters: 1: 0.61  2: {NOTHING}" in printed(sample.kept(run))


def test_a_run_that_was_not_timed_says_nothing_of_time(sample: Sample) -> None:
    kept = sample.kept()
    untimed = replace(kept, summary=kept.summary.model_copy(update={"wall_seconds": None}))
    assert "Took" not in printed(untimed)


def test_rows_are_named_and_warned_of_only_where_there_are_several(sample: Sample) -> None:
    one, two = printed(sample.kept()), printed(sample.kept(sample.run(), sample.mock()))
    differences = "How these rows differ, with intervals: harness compare 20260102-030405-7f3a"
    assert differences not in one
    assert differences in two
    assert "\nSoft vote: " in one
    assert "\nllama-cpp: Soft vote: " in two
    assert "\nmock: Soft vote: " in two


def test_notes_name_the_backends_unless_all_share_them(sample: Sample) -> None:
    assert notes(sample.kept(sample.run(), sample.mock())).plain.splitlines() == [
        "note: 8 queries. Ask more.",
        "note: mock: A mock. Do not trust it.",
    ]


def test_caveats_are_the_end_of_the_answer(sample: Sample) -> None:
    text = printed(sample.kept(sample.mock()))
    assert text.splitlines()[-2:] == [
        "note: A mock. Do not trust it.",
        "note: 8 queries. Ask more.",
    ]


def test_no_caveat_no_note(sample: Sample) -> None:
    text = printed(sample.kept(sample.run(caveats=[])))
    assert text.splitlines()[-1].startswith("Took")
