from __future__ import annotations

from typing import Any

import pytest
from rich.console import Console, RenderableType

from harness.comparison.records import (
    Agreement,
    LabelAgreement,
    LogOddsAgreement,
    Member,
    OddsDifference,
    VerdictAgreement,
    VerdictDifference,
)
from harness.report.agreement import (
    agreement_notes,
    agreement_table,
    where_they_differ,
    with_replies,
)
from harness.report.text import NOTHING
from harness.summary import Caveat, CaveatKind

RUN, OTHER_RUN = "20260102-030405-7f3a", "20260102-040506-81bc"
FURTHEST = OddsDifference(voter=1, role="calibration", position=3, row=812, difference=0.384)
CAVEAT = Caveat(
    kind=CaveatKind.ENGINES_DISAGREE, message="They are apart.", advice="Look at their tokens."
)


def found(other_run: str = RUN, **changes: Any) -> Agreement:
    differing = [
        VerdictDifference(position=position, row=100 + position, first="REAL", other="FAKE")
        for position in range(7)
    ]
    plain = Agreement(
        first=Member(run_id=RUN, entry="llama-cpp", backend="llama-cpp"),
        other=Member(run_id=other_run, entry="hf", backend="hf"),
        prompts=80,
        same_weights=True,
        labels=LabelAgreement(answered=40, unread_first=1, unread_other=2, read=38, share=0.9),
        log_odds=LogOddsAgreement(prompts=80, median=0.125, largest=0.384, furthest=[FURTHEST]),
        verdicts=VerdictAgreement(
            first_vote="calibrated", other_vote="calibrated", queries=20, differing=differing
        ),
        caveats=[],
    )
    return plain.model_copy(update=changes)


def printed(what: RenderableType, width: int = 80) -> str:
    console = Console(width=width)
    with console.capture() as captured:
        console.print(what)
    return captured.get()


def test_a_row_has_all_figures_and_says_what_is_the_same() -> None:
    text = printed(agreement_table([found()]))
    first, second = text.splitlines()[-2:]
    assert first.split() == ["llama-cpp", "90", "%", "of", "38", "0.12", "(0.38)", "7", "of", "20"]
    assert second.split() == ["hf", "unread:", "1", "/", "2", "same", "weights", "calibrated"]
    assert RUN not in text


def test_nothing_to_say_is_not_said() -> None:
    read = LabelAgreement(answered=40, unread_first=0, unread_other=0, read=40, share=1.0)
    text = printed(agreement_table([found(labels=read, same_weights=False)]))
    assert "unread" not in text
    assert "weights" not in text
    assert printed(agreement_notes([found()])).strip() == ""


def test_figures_that_there_are_not_are_dashes() -> None:
    none = LabelAgreement(answered=0, unread_first=0, unread_other=0, read=0, share=None)
    verdicts = found().verdicts.model_copy(update={"queries": 0, "differing": []})
    bare = found(labels=none, log_odds=None, verdicts=verdicts)
    last = printed(agreement_table([bare])).splitlines()[-2]
    assert last.split() == ["llama-cpp", *[NOTHING] * 3]
    apart = printed(agreement_table([bare.model_copy(update={"prompts": 0})]))
    assert "no prompt in common" in apart
    assert printed(where_they_differ([bare])).strip() == ""


def test_a_pair_of_which_one_gave_no_reply_is_left_out() -> None:
    none = LabelAgreement(answered=0, unread_first=0, unread_other=0, read=0, share=None)
    verdicts = found().verdicts.model_copy(update={"queries": 0, "differing": []})
    silent = found(labels=none, log_odds=None, verdicts=verdicts)
    other_prompts = silent.model_copy(update={"prompts": 0})
    assert with_replies([found(), silent, other_prompts]) == [found(), other_prompts]


def test_two_votes_are_both_named() -> None:
    verdicts = found().verdicts.model_copy(update={"other_vote": "majority"})
    assert "calibrated / majority" in printed(agreement_table([found(verdicts=verdicts)]), 100)


def test_the_first_queries_and_the_furthest_cell_are_named() -> None:
    said = printed(where_they_differ([found()]), 400).splitlines()
    assert said[0].startswith("llama-cpp / hf: other verdicts on query 0 (row 100): REAL / FAKE; 1")
    assert said[0].endswith("4 (row 104): REAL / FAKE; and 2 more (--json has all).")
    assert said[1] == (
        "llama-cpp / hf: log-odds furthest apart at voter 1, calibration query 3 (row 812): 0.38."
    )


def test_what_is_wholly_the_same_has_no_furthest_cell() -> None:
    same = LogOddsAgreement(
        prompts=1,
        median=0,
        largest=0,
        furthest=[FURTHEST.model_copy(update={"difference": 0.0})],
    )
    assert "furthest" not in printed(where_they_differ([found(log_odds=same)]))


def test_a_caveat_names_its_pair() -> None:
    text = printed(agreement_notes([found(), found(OTHER_RUN, caveats=[CAVEAT])]), 200)
    assert text.strip() == (
        f"note: llama-cpp {RUN} / hf {OTHER_RUN}: They are apart. Look at their tokens."
    )


@pytest.mark.parametrize("width", [80, 140])
def test_names_with_their_runs_are_whole_and_the_table_fits(width: int) -> None:
    text = printed(agreement_table([found(OTHER_RUN)]), width)
    assert f"llama-cpp {RUN}" in text
    assert f"hf {OTHER_RUN}" in text
    assert max(map(len, text.splitlines())) <= width
