from __future__ import annotations

import io
from typing import TYPE_CHECKING

from rich.console import Console

from harness.comparison.records import Lead, Member, Over
from harness.metrics import Outcome
from harness.record import Span
from harness.report.answer import (
    Beside,
    entry_columns,
    entry_records,
    notes,
    run_answer,
    what_was_prompted,
)
from harness.report.formats import Answer, as_csv, as_markdown
from harness.report.group import Point, group_answer
from harness.report.text import NOTHING
from harness.spec import RunSpec
from harness.summary import SHUFFLED, Missing, Shuffled, Summary
from tests.unit.comparison.made import ENVIRONMENT, INFO
from tests.unit.report.conftest import AGAINST, BASELINES
from tests.unit.report.test_agreement import found as agreement
from tests.unit.report.test_compare import speed

if TYPE_CHECKING:
    from tests.unit.report.conftest import Sample


SPEC = RunSpec()


def printed(summary: Summary, spec: RunSpec = SPEC, width: int = 160) -> str:
    file = io.StringIO()
    Console(file=file, width=width).print(run_answer(spec, summary).parts)
    return file.getvalue()


def shown(answer: Answer, width: int = 160) -> str:
    file = io.StringIO()
    Console(file=file, width=width).print(answer.parts, crop=False)
    return file.getvalue()


RUN_ID = "20260102-030405-7f3a"
LEAD = Lead(
    metric="prefill_tokens_per_second",
    best=Member(run_id=RUN_ID, entry="mock", backend="mock"),
    ahead_of_all=True,
    over=[
        Over(
            side=Member(run_id=RUN_ID, entry="llama-cpp", backend="llama-cpp"),
            difference=speed(change=2.7, interval=Span(low=2.4, high=3.1), outcome=Outcome.BETTER),
        )
    ],
)


def test_csv_of_a_group_of_which_no_run_is_finished_has_its_columns(sample: Sample) -> None:
    [record] = entry_records(SPEC, sample.summary(sample.run()))
    assert list(record) == entry_columns()
    none = as_csv(group_answer("curve", [Point("one", SPEC, ENVIRONMENT, None)]))
    assert none == ",".join(record) + "\n"


def rows_below(text: str, title: str) -> list[list[str]]:
    """The cells of the table that begins so, without its titles and empty cells."""
    below = text[text.index(title) :].split("\n\n", maxsplit=1)[0].splitlines()
    rule = next(place for place, line in enumerate(below) if line.startswith("─"))
    return [[c.strip() for c in line.split("  ") if c.strip()] for line in below[rule + 1 :]]


def test_answer_says_what_was_prompted_and_how_it_went(sample: Sample) -> None:
    text = printed(sample.summary(), RunSpec(voters=2, queries=8, seed=4))
    assert (
        "Run 20260102-030405-7f3a: digits (abcdef0); smollm2-135m; 2 voters x 8 queries; "
        "free decoding; 1,024 tokens of context; seed 4" in text
    )
    assert "Soft vote: 0.63 (0.53 to 0.73) on 8 queries; chance is 0.50." in text
    assert "Soft vote by number of voters: 1: 0.61  2: 0.63" in text
    assert "Took 10.0 s, 25 % of it outside the engine." in text


def test_each_baseline_is_there_with_the_test_of_the_vote_against_it(sample: Sample) -> None:
    assert rows_below(printed(sample.summary()), "vote or baseline") == [
        ["majority vote", "0.62 (0.52 to 0.72)"],
        ["soft vote", "0.63 (0.53 to 0.73)"],
        ["calibrated vote", NOTHING],
        [BASELINES[0].name, "0.70 (0.60 to 0.80)", "-7.0 (-22.1 to -5.0)", "1.000"],
        [BASELINES[1].name, "0.80 (0.70 to 0.90)", "-17.0 (-32.1 to -15.0)", "0.062"],
        [BASELINES[2].name, "0.60 (0.50 to 0.70)", "+3.0 (-12.1 to 5.0)", "1.000"],
        [BASELINES[3].name, "0.50 (0.40 to 0.60)", "+13.0 (-2.1 to 15.0)", "<0.001"],
    ]


def test_several_entries_have_a_row_each_below_a_baseline(sample: Sample) -> None:
    failed = sample.run(backend="hf", against_baselines=[])
    text = printed(sample.summary(sample.run(), sample.mock(), failed))
    rows = rows_below(text, "vote or baseline")
    assert ["mock: soft vote", "0.63 (0.53 to 0.73)"] in rows
    assert rows[9:12] == [
        [BASELINES[0].name, "0.70 (0.60 to 0.80)"],
        ["llama-cpp", "-7.0 (-22.1 to -5.0)", "1.000"],
        ["mock", "-7.0 (-22.1 to -5.0)", "1.000"],
    ]


def test_behind_shuffled_labels_another_vote_than_the_headline_is_named(sample: Sample) -> None:
    for vote, name in (("soft", SHUFFLED), ("majority", f"{SHUFFLED}, majority vote")):
        run = sample.run(shuffled=Shuffled(vote=vote, estimate=None, parsed=1.0))
        assert rows_below(printed(sample.summary(run)), "vote or b")[-1] == [name, NOTHING]


def test_a_test_without_an_interval_or_p_shows_the_difference(sample: Sample) -> None:
    bare = AGAINST[0].difference.model_copy(update={"interval": None, "p_adjusted": None})
    tests = [AGAINST[0].model_copy(update={"difference": bare})]
    rows = rows_below(printed(sample.summary(sample.run(against_baselines=tests))), "vote or b")
    assert rows[3] == [BASELINES[0].name, "0.70 (0.60 to 0.80)", "-7.0", NOTHING]
    assert rows[4] == [BASELINES[1].name, "0.80 (0.70 to 0.90)"]


def test_without_baselines_there_are_no_rows_of_them(sample: Sample) -> None:
    run = sample.run(against_baselines=[])
    text = printed(sample.summary(run, baselines=[]))
    assert "baseline" not in text
    assert rows_below(text, "vote   ")[-1] == ["calibrated vote", NOTHING]


def test_the_answer_fits_a_narrow_terminal(sample: Sample) -> None:
    wide = AGAINST[0].difference.model_copy(
        update={"change": -0.125, "interval": Span(low=-0.151, high=-0.101)}
    )
    tests = [one.model_copy(update={"difference": wide}) for one in AGAINST]
    run = sample.run(against_baselines=tests)
    for runs in ([run], [run, sample.mock(against_baselines=tests)]):
        text = printed(sample.summary(*runs), width=80)
        assert max(map(len, text.splitlines())) <= 80
        assert text.count("-12.5 (-15.1 to -10.1)") == 4 * len(runs)


def test_one_is_not_called_several(sample: Sample) -> None:
    summary = sample.summary(sample.run(accuracy=sample.accuracy(queries=1)))
    assert "1 voter x 1 query;" in what_was_prompted(RunSpec(voters=1), summary).plain


def test_queries_are_those_that_there_were(sample: Sample) -> None:
    assert " x 8 queries;" in what_was_prompted(RunSpec(queries=100), sample.summary()).plain


def test_several_attempts_and_models_are_said(sample: Sample) -> None:
    other = {"tiny": {"backend": "mock", "model": "tiny"}}
    spec = RunSpec(backend=("mock",), entries=other, attempts=3)
    said = what_was_prompted(spec, sample.summary()).plain
    assert "; smollm2-135m, tiny; " in said
    assert " x 8 queries x 3 attempts; " in said


def test_a_run_of_an_earlier_runs_prompts_says_which(sample: Sample) -> None:
    again = RunSpec(prompts_from="20260101-000000-abcd")
    said = what_was_prompted(again, sample.summary()).plain.splitlines()
    assert said[-1] == "Its prompts are those of run 20260101-000000-abcd."
    assert "prompts" not in what_was_prompted(RunSpec(), sample.summary()).plain


def test_a_run_of_a_group_and_one_without_a_hash_of_its_data(sample: Sample) -> None:
    summary = sample.summary(group="curve", data_sha256=None)
    first, second = what_was_prompted(RunSpec(), summary).plain.splitlines()
    assert ": digits; smollm2" in first
    assert second == "It belongs to the group curve."


def test_a_vote_without_a_verdict_is_a_dash(sample: Sample) -> None:
    summary = sample.summary(sample.run(accuracy=sample.accuracy(headline="majority")))
    assert f"Majority vote by number of voters: 1: 0.61  2: {NOTHING}" in printed(summary)


def test_a_run_that_was_not_timed_says_nothing_of_time(sample: Sample) -> None:
    assert "Took" not in printed(sample.summary(wall_seconds=None))


def test_rows_are_named_and_warned_of_only_where_there_are_several(sample: Sample) -> None:
    one = printed(sample.summary())
    two = printed(sample.summary(sample.run(), sample.mock(entry="fast")))
    differences = "Each pair, with intervals: harness compare 20260102-030405-7f3a"
    assert differences not in one
    assert differences in two
    assert "\nSoft vote by" in one
    assert "\nllama-cpp: Soft vote: " in two
    assert "\nfast: Soft vote: " in two


def test_the_answer_comes_first_and_the_machine_is_named(sample: Sample) -> None:
    answer = run_answer(SPEC, sample.summary(), Beside([ENVIRONMENT], {"llama-cpp": INFO}))
    text = shown(answer)
    assert text.startswith("llama-cpp: Soft vote: 0.63 (0.53 to 0.73) on 8 queries; chance is 0.50")
    assert "\nMachine: EPYC, 4 cores, 7.81 GiB, no GPU\n" in text
    assert " cpu, 2 threads" in shown(answer, 80)
    assert answer.data["environment"]["cpu"] == "EPYC"
    assert answer.data["spec"]["max_model_len"] == 1024
    assert (answer.records[0]["threads"], answer.records[0]["environment.cpu"]) == (2, "EPYC")


def test_an_unfinished_run_says_first_how_far_it_came_and_how_to_go_on(sample: Sample) -> None:
    resume = "harness run --resume 20260102-030405-7f3a --results " + "very/long/" * 20
    beside = Beside(resume=resume, cells=30)
    answer = run_answer(SPEC, sample.summary(sample.run(), sample.mock()), beside)
    text = shown(answer, 80)
    assert text.startswith("UNFINISHED: 48 of 60 replies are stored (llama-cpp 24, mock 24).\n")
    assert f"\nGo on with: {resume}\n" in text
    assert (answer.data["state"], answer.records[0]["state"]) == ("unfinished", "unfinished")


def test_json_has_who_is_ahead_and_whether_entries_agree(sample: Sample) -> None:
    beside = Beside(leads=[LEAD], agreements=[agreement(same_weights=True)])
    data = run_answer(SPEC, sample.summary(sample.run(), sample.mock()), beside).data
    assert data["leads"][0]["best"]["entry"] == "mock"
    assert data["agreements"][0]["same_weights"] is True


def test_the_best_is_marked_where_it_is_ahead_of_all(sample: Sample) -> None:
    answer = run_answer(SPEC, sample.summary(sample.run(), sample.mock()), Beside(leads=[LEAD]))
    text = shown(answer)
    assert text.count("1,234 *") == 1
    assert "\nmock: prefill tok/s 2.70x llama-cpp (2.40 to 3.10).\n" in text
    assert "*" not in as_csv(answer)
    assert r"1,234 \*" in as_markdown(answer)
    assert r"\* better than every other" in as_markdown(answer)


def test_notes_name_the_entries_unless_all_share_them(sample: Sample) -> None:
    assert notes(sample.summary(sample.run(), sample.mock(entry="fast"))).plain.splitlines() == [
        "note: 8 queries. Ask more.",
        "note: fast: A mock. Do not trust it.",
    ]


def test_missing_figures_have_one_note_a_reason(sample: Sample) -> None:
    missing = {
        "prefill_tokens_per_second": Missing.NOT_REPORTED,
        "soft": Missing.NO_LABEL_LOGPROBS,
        "auc": Missing.ONE_CLASS,  # in no table
        "time_to_first_token_ms": Missing.NOT_REPORTED,
    }
    run, other = sample.run(missing=missing, caveats=[]), sample.mock(caveats=[])
    assert notes(sample.summary(run)).plain.splitlines() == [
        "note: prefill tok/s, ms to first token (p95): not reported by the engine.",
        "note: soft vote: the engine reports no label log-probabilities.",
    ]
    said = notes(sample.summary(run, other)).plain
    assert said.startswith("note: llama-cpp: prefill tok/s, ")


def test_caveats_are_the_end_of_the_answer(sample: Sample) -> None:
    text = printed(sample.summary(sample.mock()))
    assert text.splitlines()[-2:] == [
        "note: A mock. Do not trust it.",
        "note: 8 queries. Ask more.",
    ]


def test_no_caveat_no_note(sample: Sample) -> None:
    text = printed(sample.summary(sample.run(caveats=[])))
    assert text.splitlines()[-1].startswith("Took")
