"""Agreement of entries: cells made by hand, and the laws that hold for any."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.comparison.agreement import (
    LARGEST_TOLERANCE,
    MEDIAN_TOLERANCE,
    agreement,
    agreements,
    log_odds_difference,
)
from harness.comparison.reading import Answer, Place, Read
from harness.comparison.records import Agreement, Member
from harness.store.schema import PromptRow, Role
from harness.summary import CaveatKind

VOTERS, QUERIES, CALIBRATION = 2, 3, 2
PLACES: list[Place] = [
    (voter, role, position)
    for voter in range(VOTERS)
    for role, count in (("query", QUERIES), ("calibration", CALIBRATION))
    for position in range(count)
]
CLASSES = ("FAKE", "REAL")
LIKELY = (-0.1, -2.5)

logprobs = st.tuples(st.floats(-30, 0), st.floats(-30, 0))
some_answers = st.dictionaries(
    st.sampled_from(PLACES),
    st.builds(Answer, st.none() | st.sampled_from(CLASSES), st.none() | logprobs),
)


def prompts() -> dict[Place, PromptRow]:
    return {
        (voter, role, position): PromptRow(
            voter, cast(Role, role), position, 100 + position, label=0, examples=5, text_sha256="t"
        )
        for voter, role, position in PLACES
    }


def side(
    answers: Mapping[Place, Answer] | None = None,
    verdicts: Mapping[int, str] | None = None,
    name: str = "one",
    vote: str = "calibrated",
    given_prompts: Mapping[Place, PromptRow] | None = None,
    model_sha256: str | None = None,
) -> Read:
    """Every prompt answered with FAKE, but for what is given."""
    plain = {place: Answer("FAKE" if place[1] == "query" else None, LIKELY) for place in PLACES}
    return Read(
        member=Member(run_id="a", entry=name, backend=name),
        model_sha256=model_sha256,
        prompts=prompts() if given_prompts is None else given_prompts,
        answers={**plain, **(answers or {})},
        vote=vote,
        verdicts=dict.fromkeys(range(QUERIES), "FAKE") | dict(verdicts or {}),
    )


def turned(found: Agreement) -> Agreement:
    """The same, seen from the other side."""
    labels, verdicts = found.labels, found.verdicts
    return found.model_copy(
        update={
            "first": found.other,
            "other": found.first,
            "labels": labels.model_copy(
                update={"unread_first": labels.unread_other, "unread_other": labels.unread_first}
            ),
            "verdicts": verdicts.model_copy(
                update={
                    "first_vote": verdicts.other_vote,
                    "other_vote": verdicts.first_vote,
                    "differing": [
                        one.model_copy(update={"first": one.other, "other": one.first})
                        for one in verdicts.differing
                    ],
                }
            ),
        }
    )


@st.composite
def sides(draw: st.DrawFn, name: str = "one") -> Read:
    given_prompts = {
        place: replace(prompt, text_sha256=draw(st.sampled_from(["t", "other"])))
        for place, prompt in prompts().items()
        if draw(st.booleans())
    }
    answers = draw(some_answers)
    queries = {place[2] for place in given_prompts if place[:2] == (0, "query")}
    return Read(
        member=Member(run_id="a", entry=name, backend=name),
        model_sha256=draw(st.sampled_from([None, "x", "y"])),
        prompts=given_prompts,
        answers={place: answer for place, answer in answers.items() if place in given_prompts},
        vote=draw(st.sampled_from(["majority", "calibrated"])),
        verdicts={position: draw(st.sampled_from(CLASSES)) for position in queries},
    )


@given(sides("one"), sides("two"))
def test_agreement_is_symmetric(one: Read, two: Read) -> None:
    assert agreement(two, one) == turned(agreement(one, two))


@given(sides())
def test_a_run_agrees_fully_with_itself(one: Read) -> None:
    found = agreement(one, one)
    assert found.prompts == len(one.prompts)
    assert found.labels.share in (None, 1.0)
    assert found.log_odds is None or found.log_odds.largest == 0
    assert found.verdicts.differing == []
    assert found.verdicts.queries == len(one.verdicts)
    assert found.caveats == []
    assert found.same_weights == (one.model_sha256 is not None)


@given(logprobs, logprobs)
def test_of_two_labels_it_is_the_difference_of_log_odds(
    one: tuple[float, float], two: tuple[float, float]
) -> None:
    expected = abs((one[0] - one[1]) - (two[0] - two[1]))
    assert log_odds_difference(one, two) == pytest.approx(expected, abs=1e-9)


@given(st.lists(st.tuples(st.floats(-30, 0), st.floats(-30, 0)), min_size=2), st.floats(-5, 5))
def test_it_is_the_largest_over_pairs_and_blind_to_the_mass_of_the_labels(
    rows: list[tuple[float, float]], shift: float
) -> None:
    one, two = ([row[side] for row in rows] for side in (0, 1))
    pairs = [abs((one[i] - one[j]) - (two[i] - two[j])) for i in range(len(one)) for j in range(i)]
    assert log_odds_difference(one, two) == pytest.approx(max(pairs), abs=1e-9)
    shifted = [value + shift for value in two]
    assert log_odds_difference(one, shifted) == pytest.approx(max(pairs), abs=1e-9)


def test_labels_count_queries_that_both_answered_and_could_be_read() -> None:
    one = side({(0, "query", 0): Answer(None, LIKELY)})
    two = side({(0, "query", 1): Answer("REAL", LIKELY), (1, "query", 0): Answer(None, LIKELY)})
    unanswered = {place: answer for place, answer in two.answers.items() if place[0] == 0}
    found = agreement(one, two).labels
    assert (found.answered, found.unread_first, found.unread_other) == (6, 1, 1)
    assert (found.read, found.share) == (4, 0.75)
    fewer = agreement(one, replace(two, answers=unanswered)).labels
    assert (fewer.answered, fewer.unread_other, fewer.read, fewer.share) == (3, 0, 2, 0.5)


def test_log_odds_are_over_queries_and_calibration_and_name_the_furthest() -> None:
    moved = {
        (1, "calibration", 1): Answer(None, (-0.1, -4.5)),
        (0, "query", 2): Answer("FAKE", (-0.1, -2.0)),
        (1, "query", 0): Answer("FAKE", None),
    }
    found = agreement(side(), side(moved)).log_odds
    assert found is not None
    assert (found.prompts, found.median) == (len(PLACES) - 1, 0)
    assert found.largest == pytest.approx(2.0)
    furthest = [(one.voter, one.role, one.position, one.row) for one in found.furthest[:2]]
    assert furthest == [(1, "calibration", 1, 101), (0, "query", 2, 102)]
    assert [one.difference for one in found.furthest[2:]] == [0, 0, 0]


def test_without_log_probabilities_there_is_no_difference_and_no_caveat() -> None:
    bare = side(dict.fromkeys(PLACES, Answer("FAKE", None)), model_sha256="x")
    found = agreement(bare, bare)
    assert (found.log_odds, found.caveats, found.same_weights) == (None, [], True)


def test_other_verdicts_are_all_reported_with_position_and_row() -> None:
    found = agreement(side(), side(verdicts={1: "REAL", 2: "REAL"}, vote="majority")).verdicts
    assert (found.first_vote, found.other_vote, found.queries) == ("calibrated", "majority", 3)
    assert [(one.position, one.row, one.first, one.other) for one in found.differing] == [
        (1, 101, "FAKE", "REAL"),
        (2, 102, "FAKE", "REAL"),
    ]


def test_a_query_without_a_verdict_on_either_side_is_left_out() -> None:
    assert agreement(side(), side()).verdicts.queries == QUERIES
    assert agreement(side(), replace(side(), verdicts={0: "REAL"})).verdicts.queries == 1


def test_only_what_was_given_with_the_same_text_counts() -> None:
    """One voter's prompt to one query differs: its cell is out, and that query's verdict."""
    place = (1, "query", 2)
    given_prompts = prompts()
    given_prompts[place] = replace(given_prompts[place], text_sha256="other")
    far = side({place: Answer("REAL", (-9.0, -0.1))}, {2: "REAL"}, given_prompts=given_prompts)
    found = agreement(side(), far)
    assert found.prompts == len(PLACES) - 1
    assert (found.labels.read, found.labels.share) == (5, 1.0)
    assert found.log_odds is not None
    assert found.log_odds.largest == 0
    assert (found.verdicts.queries, found.verdicts.differing) == (2, [])


def test_more_voters_make_other_verdicts_but_the_same_cells() -> None:
    fewer = {place: prompt for place, prompt in prompts().items() if place[0] == 0}
    found = agreement(side(), side(given_prompts=fewer))
    assert found.prompts == len(fewer)
    assert found.labels.read == QUERIES
    assert found.verdicts.queries == 0


def test_nothing_in_common() -> None:
    other = {place: replace(prompt, text_sha256="x") for place, prompt in prompts().items()}
    found = agreement(side(), side(given_prompts=other))
    assert (found.prompts, found.labels.share, found.log_odds) == (0, None, None)
    assert found.verdicts.queries == 0


@pytest.mark.parametrize(
    ("hashes", "moved", "beyond"),
    [
        (("x", "x"), (MEDIAN_TOLERANCE, 0.0), False),
        (("x", "x"), (MEDIAN_TOLERANCE + 0.01, 0.0), True),
        (("x", "x"), (0.0, LARGEST_TOLERANCE), False),
        (("x", "x"), (0.0, LARGEST_TOLERANCE + 0.01), True),
        (("x", "y"), (9.0, 9.0), False),
        ((None, None), (9.0, 9.0), False),
    ],
)
def test_only_the_same_weights_have_a_tolerance(
    hashes: Sequence[str | None], moved: tuple[float, float], beyond: bool
) -> None:
    everywhere, once = moved
    answers = {place: Answer("FAKE", (0.0, -everywhere)) for place in PLACES}
    answers[PLACES[0]] = Answer("FAKE", (0.0, -max(everywhere, once)))
    still = side(dict.fromkeys(PLACES, Answer("FAKE", (0.0, 0.0))), model_sha256=hashes[0])
    found = agreement(still, side(answers, model_sha256=hashes[1]))
    assert found.same_weights == (hashes == ("x", "x"))
    kinds = [caveat.kind for caveat in found.caveats]
    assert kinds == ([CaveatKind.ENGINES_DISAGREE] if beyond else [])
    assert not beyond or found.caveats[0].figures["largest"] == pytest.approx(max(moved))


def test_every_pair_once_in_order() -> None:
    found = agreements([side(name=name) for name in ("one", "two", "three")])
    names = [(one.first.backend, one.other.backend) for one in found]
    assert names == [("one", "two"), ("one", "three"), ("two", "three")]
    assert agreements([side()]) == []
