from __future__ import annotations

import csv
import io
from collections.abc import Callable
from typing import Any

import pytest
from rich.console import Console, RenderableType

from harness.comparison.records import (
    Compared,
    Comparison,
    FieldDifference,
    Flip,
    Member,
    PromptDifference,
)
from harness.metrics import Difference, Outcome
from harness.record import Span
from harness.report.compare import (
    about,
    compare_answer,
    difference_table,
    flip_parts,
    loud_warnings,
    methods,
    warnings,
)
from harness.report.formats import as_csv, as_markdown
from harness.report.text import NOTHING

RUN, OTHER_RUN = "20260102-030405-7f3a", "20260102-040506-81bc"
HOSTILE = "e[bold]v|il\x1b[31m\n<b>"


def share(**changes: Any) -> Difference:
    plain = Difference(
        metric="accuracy",
        kind="difference",
        paired=True,
        first=0.8,
        other=0.7,
        change=-0.1,
        interval=Span(low=-0.1512, high=-0.04),
        test="McNemar, exact",
        p_value=0.0123,
        p_adjusted=0.0246,
        samples=(600, 600),
        outcome=Outcome.WORSE,
    )
    return plain.model_copy(update=changes)


def speed(**changes: Any) -> Difference:
    plain = Difference(
        metric="prefill_tokens_per_second",
        kind="ratio",
        paired=False,
        first=1234.5,
        other=1283.9,
        change=1.04,
        interval=Span(low=0.99, high=1.1),
        test="Mann-Whitney U",
        p_value=0.00001,
        p_adjusted=0.00002,
        samples=(20, 21),
        outcome=Outcome.NO_SIGNIFICANT_DIFFERENCE,
    )
    return plain.model_copy(update=changes)


def found(**changes: Any) -> Comparison:
    plain = Comparison(
        first=Member(run_id=RUN, entry="llama-cpp", backend="llama-cpp"),
        other=Member(run_id=OTHER_RUN, entry="hf", backend="hf"),
        elsewhere=False,
        unpaired_because=None,
        same_text=True,
        same_tokens=True,
        prompts_equal=True,
        first_difference=None,
        spec=[],
        conditions=[],
        differences=[share(), speed()],
        flips=[],
    )
    return plain.model_copy(update=changes)


def whole(*comparisons: Comparison, same_accuracy_p: float | None = None) -> Compared:
    return Compared(
        runs=[],
        imports=[],
        against_first=list(comparisons),
        same_accuracy_p=same_accuracy_p,
        leads=[],
        agreements=[],
    )


def printed(what: RenderableType, width: int = 80) -> str:
    console = Console(width=width)
    with console.capture() as captured:
        console.print(what)
    return captured.get()


def csv_of(compared: Compared) -> str:
    return as_csv(compare_answer([], compared, flips=False))


def markdown_of(compared: Compared) -> str:
    return as_markdown(compare_answer([], compared, flips=False))


def rows(compared: Compared) -> list[str]:
    """The lines of the table, but the titles, with single spaces."""
    text = printed(difference_table(compared), 140)
    return [" ".join(line.split()) for line in text.splitlines()][3:]


def test_a_row_has_both_values_the_change_its_interval_p_and_the_verdict() -> None:
    assert rows(whole(found())) == [
        "hf",
        OTHER_RUN,
        "accuracy 0.800 0.700 -10.0 pp 0.025 worse",
        "(-15.1 to -4.0)",
        "prefill tok/s 1,234 1,284 x 1.04 <0.001 no significant",
        "(0.99 to 1.10) difference",
    ]


def test_what_has_no_interval_has_none_shown() -> None:
    few = speed(interval=None, p_value=None, p_adjusted=None, outcome=Outcome.TOO_FEW)
    assert rows(whole(found(differences=[few])))[2:] == [
        f"prefill tok/s 1,234 1,284 x 1.04 {NOTHING} too few samples"
    ]


def test_what_was_only_counted_is_the_same_or_not() -> None:
    same = speed(
        metric="examples_per_voter",
        test="counted",
        change=1.0,
        interval=None,
        p_adjusted=None,
        outcome=Outcome.SAME,
    )
    other = same.model_copy(update={"outcome": Outcome.WORSE, "change": 0.5})
    said = rows(whole(found(differences=[same, other])))[2:]
    assert [line.split(NOTHING)[1] for line in said] == [" the same", " worse"]


def test_sides_without_a_common_metric_say_so() -> None:
    assert rows(whole(found(differences=[])))[-1] == "no metric in common"


@pytest.mark.parametrize("width", [80, 140])
def test_the_table_fits_the_terminal(width: int) -> None:
    metrics = ("decode_tokens_per_second", "time_to_first_token_ms")
    many = [speed(metric=metric, first=54321.0, outcome=Outcome.TOO_FEW) for metric in metrics]
    shares = share(change=-0.125, interval=Span(low=-0.15, high=-0.101), p_adjusted=1e-9)
    text = printed(difference_table(whole(found(differences=[shares, *many]))), width)
    assert max(map(len, text.splitlines())) <= width
    for whole_words in (OTHER_RUN, "(-15.0 to -10.1)", "ms to first token", "too few samples"):
        assert whole_words in text


OTHER_TEXT = PromptDifference(voter=1, role="query", position=3, what="text")
OTHER_TOKENS = OTHER_TEXT.model_copy(update={"what": "tokens"})
THREADS = FieldDifference(field="threads", first=2, other=None)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, []),
        (
            {"same_text": False, "same_tokens": False, "first_difference": OTHER_TEXT},
            [
                "given other prompts (first at voter 1, query 3: another text). "
                "Differences may come from that."
            ],
        ),
        (
            {"same_tokens": False, "first_difference": OTHER_TOKENS},
            [
                "given the same text as other tokens (first at voter 1, query 3: the same text, "
                "other tokens)."
            ],
        ),
        (
            {"spec": [THREADS, FieldDifference(field="seed", first=0, other=1)]},
            ["specs differ in threads 2 / none, seed 0 / 1."],
        ),
        ({"conditions": [THREADS]}, ["conditions differ in threads 2 / none."]),
        (
            {"elsewhere": True, "same_text": False, "conditions": [THREADS]},
            ["not measured alike: threads 2 / none."],
        ),
        ({"elsewhere": True, "same_text": False}, []),
        (
            {"unpaired_because": "their data are not the same"},
            ["queries are not paired: their data are not the same."],
        ),
    ],
)
def test_what_stands_in_the_way_is_said(changes: dict[str, Any], said: list[str]) -> None:
    who = f"WARNING: llama-cpp {RUN} and hf {OTHER_RUN}: "
    assert warnings(found(**changes)) == [who + sentence for sentence in said]


def test_warnings_are_loud_and_each_on_a_line_of_its_own() -> None:
    loud = loud_warnings([found(spec=[THREADS], conditions=[THREADS]), found()])
    assert len(loud.plain.splitlines()) == 2
    assert {str(span.style) for span in loud.spans} == {"bold reverse"}
    assert not loud_warnings([found()])
    named = Member(run_id=OTHER_RUN, entry="hf", backend="hf", run_name="fast")
    said = loud_warnings([found(other=named, spec=[THREADS])]).plain
    assert said.startswith(f"WARNING: llama-cpp {RUN} and hf fast: ")


def test_about_says_who_was_given_the_same() -> None:
    other = found(same_tokens=False, prompts_equal=False)
    text = about(whole(found(), other, same_accuracy_p=0.0004)).plain
    assert text.count("given the same prompts as") == 1
    assert f"hf {OTHER_RUN}: given the same prompts as llama-cpp {RUN}." in text
    assert "Cochran's Q, p < 0.001." in text
    assert about(whole(found(), found())).plain == "All were given the same prompts."
    assert (
        about(whole(found())).plain == f"hf {OTHER_RUN}: given the same prompts as llama-cpp {RUN}."
    )


def test_how_figures_come_about_is_said_where_that_is_wanted() -> None:
    compared = whole(found())
    short, long = (printed(compare_answer([], compared, False, on).parts) for on in (False, True))
    assert "--explain" in short
    assert "Mann-Whitney" not in short
    assert "--explain" not in long
    text = methods(compared).plain
    assert "other - first over the same queries; p by McNemar, exact." in text
    assert "p by Mann-Whitney" in text


def test_about_tells_of_the_tests_that_there_were() -> None:
    fisher = share(paired=False, test="Fisher, exact")
    text = methods(whole(found(differences=[fisher, share()]))).plain
    assert "over the queries of each; p by Fisher, exact; McNemar, exact." in text
    assert "Mann-Whitney" not in text
    assert "p by" not in methods(whole(found(differences=[]))).plain


def test_about_says_what_was_only_counted() -> None:
    counted = speed(metric="examples_per_voter", test="counted", p_value=None, p_adjusted=None)
    text = methods(whole(found(differences=[counted]))).plain
    assert "What was counted has neither interval nor p." in text
    assert "Mann-Whitney" not in text
    assert "counted" not in methods(whole(found())).plain


def test_sides_of_different_numbers_of_queries_have_them_shown() -> None:
    unequal = whole(found(differences=[share(samples=(100, 200), paired=False), speed()]))
    text = printed(compare_answer([], unequal, flips=False).parts)
    assert "n 100 / 200" in text
    assert "n 20 / 21" not in text
    assert "n 600" not in printed(compare_answer([], whole(found()), flips=False).parts)


def test_flips_are_counted_and_listed() -> None:
    flips = [
        Flip(position=4, row=107, truth="REAL", first="REAL", other="FAKE"),
        Flip(position=9, row=100, truth="FAKE", first="REAL", other="FAKE"),
        Flip(position=11, row=120, truth="FAKE", first="REAL", other="FAKE"),
    ]
    text = "".join(printed(part) for part in flip_parts([found(flips=flips)]))
    assert f"hf {OTHER_RUN}: 2 queries became right, 1 wrong." in text
    assert text.splitlines()[-3].split() == ["4", "107", "REAL", "REAL", "FAKE"]
    [alone] = flip_parts([found()])
    assert "0 queries became right, 0 wrong." in printed(alone)


def test_csv_without_a_common_metric_has_its_columns() -> None:
    none, some = csv_of(whole(found(differences=[]))), csv_of(whole(found()))
    assert none == some.splitlines(keepends=True)[0]
    assert none.startswith("first_run,other_run,first_entry,")


def test_csv_reads_back() -> None:
    few = speed(interval=None, p_value=None, p_adjusted=None)
    lines = list(csv.DictReader(io.StringIO(csv_of(whole(found(), found(differences=[few]))))))
    assert [line["metric"] for line in lines] == ["accuracy", *["prefill_tokens_per_second"] * 2]
    first = lines[0]
    assert (first["first_run"], first["other_run"]) == (RUN, OTHER_RUN)
    for kind in ("entry", "backend"):
        assert (first[f"first_{kind}"], first[f"other_{kind}"]) == ("llama-cpp", "hf")
    assert [float(first[name]) for name in ("first", "other", "change", "low", "high")] == [
        0.8,
        0.7,
        -0.1,
        -0.1512,
        -0.04,
    ]
    assert (first["outcome"], first["test"]) == ("worse", "McNemar, exact")
    assert first["prompts_equal"] == "true"
    assert (first["first_samples"], lines[1]["other_samples"]) == ("600", "21")
    assert [lines[2][name] for name in ("low", "high", "p_value", "p_adjusted")] == [""] * 4


def test_markdown_is_one_table_and_the_warnings() -> None:
    _, note, table, *_ = markdown_of(whole(found(spec=[THREADS]))).split("\n\n")
    titles, rule, *body = table.splitlines()
    assert titles == "|  | first | other | change<br>(95 % interval) | p | other is |"
    assert rule == "| --- | ---: | ---: | --- | ---: | --- |"
    assert [line.count("|") for line in body] == [7] * 3
    assert note.startswith("WARNING: llama-cpp ")


UNTRUSTED = found(
    other=Member(run_id="import-aa", entry=HOSTILE, backend=HOSTILE),
    elsewhere=True,
    conditions=[FieldDifference(field="model", first="m", other=HOSTILE)],
)


def as_text(compared: Compared) -> str:
    return printed(difference_table(compared))


def as_warnings(compared: Compared) -> str:
    return printed(loud_warnings(compared.against_first))


def as_flips(compared: Compared) -> str:
    return "".join(printed(part) for part in flip_parts(compared.against_first))


@pytest.mark.parametrize("shown", [as_text, as_warnings, as_flips, markdown_of, csv_of])
def test_untrusted_text_drives_no_terminal(shown: Callable[[Compared], str]) -> None:
    text = shown(whole(UNTRUSTED))
    assert "\x1b" not in text
    assert "v" in text


def test_untrusted_text_is_no_markup() -> None:
    assert "e[bold]v|il" in printed(difference_table(whole(UNTRUSTED)))
    assert r"e\[bold\]v\|il\[31m &lt;b&gt;" in markdown_of(whole(UNTRUSTED))
