"""Caveats: each says what was seen and gives advice that can be followed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from harness.scoring.accuracy import Ballots, score_accuracy
from harness.scoring.caveats import CaveatInputs, find_caveats
from harness.scoring.parsing import NOT_PARSED
from harness.stats.intervals import wilson
from harness.summary import Accuracy, Caveat, CaveatKind, Parse, Token, TokenDifference


def voted(queries: int = 120, answered: int = 120, headline: str = "majority") -> Accuracy:
    """All right, as far as there is a verdict."""
    truth = np.arange(queries) % 2
    votes = np.where(np.arange(queries) < answered, truth, -1)
    accuracy = score_accuracy(Ballots(truth, votes[np.newaxis], None, None), ("A", "B"), seed=0)
    held = {"headline": headline, "majority": None, headline: accuracy.majority}
    return accuracy.model_copy(update=held)


def read(right: int, of: int) -> Parse:
    return Parse(replies=of, strict=wilson(right, of), lenient=wilson(right, of), reasons={})


def found(**changes: Any) -> list[Caveat]:
    """The caveats of a run that has none, but for the changes."""
    plain: dict[str, Any] = {
        "is_mock": False,
        "accuracy": voted(),
        "parse": NOT_PARSED,
        "label_mass": None,
        "queries_asked": 120,
        "calibration_asked": 20,
        "calibration_per_voter": 20,
        "shots": None,
        "fewest_shown": 50,
        "examples_shown": 50,
        "examples_available": 50,
        "cells_failed": 0,
        "cells_missing": 0,
        "failure_reasons": (),
        "shared_vectors": 0,
        "sessions": 1,
        "own_tokens": None,
    }
    return find_caveats(CaveatInputs(**(plain | changes)))


def only(kind: CaveatKind, **changes: Any) -> Caveat:
    [caveat] = found(**changes)
    assert caveat.kind is kind
    return caveat


def test_a_run_to_trust_has_none() -> None:
    assert found() == []


@pytest.mark.parametrize(
    ("kind", "changes", "said"),
    [
        (CaveatKind.MOCK, {"is_mock": True}, "mock"),
        (
            CaveatKind.CELLS_FAILED,
            {"cells_failed": 3, "failure_reasons": ("3 x overflow",)},
            "3 x overflow",
        ),
        (CaveatKind.CELLS_MISSING, {"cells_missing": 4}, "4 cells"),
        (CaveatKind.TRAIN_TEST_OVERLAP, {"shared_vectors": 5}, "5 test vectors"),
        (CaveatKind.LOW_LABEL_MASS, {"label_mass": 0.25}, "0.250"),
        (CaveatKind.EXAMPLES_DROPPED, {"examples_shown": 40}, "40 of 50 examples"),
        (CaveatKind.SEVERAL_SESSIONS, {"sessions": 2}, "2 sessions"),
    ],
)
def test_a_caveat_has_its_figures(kind: CaveatKind, changes: dict[str, Any], said: str) -> None:
    caveat = only(kind, **changes)
    assert said in caveat.message
    assert caveat.advice


def test_the_gravest_comes_first() -> None:
    kinds = [c.kind for c in found(sessions=2, is_mock=True, label_mass=0.1, cells_failed=1)]
    assert kinds == ["mock", "cells_failed", "low_label_mass", "several_sessions"]


def test_no_more_queries_are_prompted_than_there_are() -> None:
    few = only(CaveatKind.FEW_QUERIES, accuracy=voted(15, 15), queries_asked=15)
    assert "--queries" in few.advice
    held = only(CaveatKind.FEW_QUERIES, accuracy=voted(15, 15), queries_asked=100)
    assert "test split holds only 15 queries" in held.message
    assert "--queries" not in held.advice
    assert only(CaveatKind.FEW_QUERIES, queries_asked=500).message.count("120") == 1


@pytest.mark.parametrize(
    ("asked", "given", "said"),
    [(20, 20, None), (20, 12, None), (0, 0, None), (4, 4, "on 4"), (20, 4, "20"), (20, 0, "20")],
)
def test_a_thin_calibration_is_reported_with_its_cause(
    asked: int, given: int, said: str | None
) -> None:
    changes = {"calibration_asked": asked, "calibration_per_voter": given}
    if said is None:
        assert found(**changes) == []
        return
    caveat = only(CaveatKind.CALIBRATION_THIN, **changes)
    assert said in caveat.message
    assert ("--calibration-queries" in caveat.advice) == (asked == given)


def test_votes_by_logprobs_of_replies_that_cannot_be_read() -> None:
    parse = read(12, 100)
    caveat = only(CaveatKind.LABELS_NOT_WRITTEN, accuracy=voted(headline="soft"), parse=parse)
    assert caveat.message == (
        "Only 12 % of the replies could be read; the soft vote is made from label "
        "log-probabilities, not from what was written."
    )
    assert "--max-tokens" in caveat.advice
    assert found(accuracy=voted(headline="majority"), parse=parse) == []
    assert found(accuracy=voted(headline="soft"), parse=read(95, 100)) == []


@pytest.mark.parametrize(("headline", "advice"), [("majority", "--prompt"), ("soft", "--resume")])
def test_what_has_no_verdict_is_counted(headline: str, advice: str) -> None:
    caveat = only(CaveatKind.UNANSWERED, accuracy=voted(120, 110, headline))
    assert caveat.message.startswith(f"10 of 120 queries got no {headline} verdict")
    assert advice in caveat.advice


def test_shots_that_were_asked_for_leave_out_none() -> None:
    assert found(shots=8, fewest_shown=8, examples_shown=8) == []
    caveat = only(CaveatKind.FEW_EXAMPLES, shots=60)
    assert "--shots 60" in caveat.message
    assert "only 50 examples" in caveat.message


def test_tokens_of_its_own_are_shown_with_both_sides() -> None:
    asked = [Token(id=1, text="<bos>"), Token(id=12, text="Ġx")]
    where = TokenDifference(voter=2, role="query", position=3, token=17, asked=asked, own=[])
    caveat = only(CaveatKind.TOKENS_DIFFER, own_tokens=where)
    assert "voter 2, query 3, at token 17: the end and not '<bos>' (1) 'Ġx' (12)." in caveat.message
