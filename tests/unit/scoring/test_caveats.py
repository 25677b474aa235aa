"""Caveats: which hold, and with which figures."""

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
        "queries_wanted": 120,
        "calibration_wanted": 20,
        "calibration_per_voter": 20,
        "shots": None,
        "fewest_shown": 50,
        "examples_shown": 50,
        "examples_available": 50,
        "cells_failed": 0,
        "cells_missing": 0,
        "failure_reasons": (),
        "failure_remedies": (),
        "has_replies": True,
        "is_text": False,
        "shared_items": 0,
        "examples_too_long": 0,
        "queries_too_long": 0,
        "all_tokens": None,
        "context_limit": 1024,
        "context_wanted": 1024,
        "declared_context": 8192,
        "longest_prompt": 8000,
        "sessions": 1,
        "other_cpu_share": 0.02,
        "own_tokens": None,
        "findings": (),
    }
    return find_caveats(CaveatInputs(**(plain | changes)))


def only(kind: CaveatKind, **changes: Any) -> Caveat:
    [caveat] = found(**changes)
    assert caveat.kind is kind
    return caveat


def test_a_run_to_trust_has_none() -> None:
    assert found() == []
    # Speeds that are made up are not made up worse, and an engine elsewhere has other processors.
    shared = [one.kind for one in found(is_mock=True, other_cpu_share=0.9)]
    assert shared == [CaveatKind.MOCK]
    assert found(other_cpu_share=None) == []


@pytest.mark.parametrize(
    ("kind", "changes", "figures"),
    [
        (CaveatKind.MOCK, {"is_mock": True}, {}),
        (
            CaveatKind.CELLS_FAILED,
            {"cells_failed": 3, "failure_reasons": ("overflow",), "failure_remedies": ("Fix it.",)},
            {"cells": 3, "reasons": ["overflow"], "remedies": ["Fix it."]},
        ),
        (CaveatKind.CELLS_MISSING, {"cells_missing": 4}, {"cells": 4}),
        (CaveatKind.TRAIN_TEST_OVERLAP, {"shared_items": 5}, {"vectors": 5}),
        (CaveatKind.TRAIN_TEST_OVERLAP, {"shared_items": 5, "is_text": True}, {"texts": 5}),
        (
            CaveatKind.TEXTS_TOO_LONG,
            {"examples_too_long": 2, "queries_too_long": 1},
            {"examples": 2, "queries": 1, "limit": 1024},
        ),
        (CaveatKind.LOW_LABEL_MASS, {"label_mass": 0.25}, {"label_mass": 0.25}),
        (
            CaveatKind.EXAMPLES_DROPPED,
            {"examples_shown": 40},
            {"shown": 40, "available": 50, "is_limited": False},
        ),
        (CaveatKind.CONTEXT_LIMITED, {"context_wanted": 4096}, {"limit": 1024, "wanted": 4096}),
        (CaveatKind.SEVERAL_SESSIONS, {"sessions": 2}, {"sessions": 2}),
        (CaveatKind.PROCESSORS_SHARED, {"other_cpu_share": 0.4}, {"share": 0.4}),
        (CaveatKind.FEW_EXAMPLES, {"shots": 60}, {"shots": 60, "examples": 50}),
    ],
)
def test_a_caveat_has_its_figures_and_no_words(
    kind: CaveatKind, changes: dict[str, Any], figures: dict[str, Any]
) -> None:
    assert only(kind, **changes) == Caveat(kind=kind, figures=figures)


def test_the_gravest_comes_first() -> None:
    kinds = [c.kind for c in found(sessions=2, is_mock=True, label_mass=0.1, cells_failed=1)]
    assert kinds == ["mock", "cells_failed", "low_label_mass", "several_sessions"]


def test_few_queries_are_few_for_what_was_wanted_or_for_an_interval() -> None:
    few = only(CaveatKind.FEW_QUERIES, accuracy=voted(15, 15), queries_wanted=15)
    assert few.figures == {"queries": 15, "wanted": 15, "enough": 100}
    short = only(CaveatKind.FEW_QUERIES, queries_wanted=500)
    assert short.figures == {"queries": 120, "wanted": 500, "enough": 100}


@pytest.mark.parametrize(
    ("wanted", "given", "is_thin"),
    [(20, 20, False), (20, 12, False), (0, 0, False), (4, 4, True), (20, 4, True), (20, 0, True)],
)
def test_a_thin_calibration_is_reported(wanted: int, given: int, is_thin: bool) -> None:
    changes = {"calibration_wanted": wanted, "calibration_per_voter": given}
    if not is_thin:
        assert found(**changes) == []
        return
    caveat = only(CaveatKind.CALIBRATION_THIN, **changes)
    assert caveat.figures == {"examples": given, "wanted": wanted, "enough": 8}


def test_votes_by_logprobs_of_replies_that_cannot_be_read() -> None:
    parse = read(12, 100)
    caveat = only(CaveatKind.LABELS_NOT_WRITTEN, accuracy=voted(headline="soft"), parse=parse)
    assert caveat.figures == {"readable": 0.12, "vote": "soft"}
    assert found(accuracy=voted(headline="majority"), parse=parse) == []
    assert found(accuracy=voted(headline="soft"), parse=read(95, 100)) == []


@pytest.mark.parametrize("headline", ["majority", "soft"])
def test_what_has_no_verdict_is_counted(headline: str) -> None:
    caveat = only(CaveatKind.UNANSWERED, accuracy=voted(120, 110, headline))
    assert caveat.figures == {"unanswered": 10, "queries": 120, "vote": headline}
    assert found(accuracy=voted(120, 110, headline), has_replies=False) == []


def test_shots_that_were_asked_for_leave_out_none() -> None:
    assert found(shots=8, fewest_shown=8, examples_shown=8) == []


def test_tokens_of_its_own_are_stored_with_both_sides() -> None:
    given = [Token(id=1, text="<bos>"), Token(id=12, text="\u0120x")]
    where = TokenDifference(voter=2, role="query", position=3, token=17, given=given, own=[])
    caveat = only(CaveatKind.TOKENS_DIFFER, own_tokens=where)
    assert caveat.figures == where.model_dump(mode="json")


def test_a_context_that_is_not_used_has_its_figures() -> None:
    """Only where more examples could be shown, and were not left out on purpose."""
    unused = {"examples_shown": 40, "longest_prompt": 1000}

    def kinds(**changes: Any) -> set[CaveatKind]:
        return {one.kind for one in found(**(unused | changes))}

    [caveat] = [one for one in found(**unused) if one.kind is CaveatKind.CONTEXT_UNUSED]
    assert caveat.figures == {"declared": 8192, "used": 1000}
    assert CaveatKind.CONTEXT_UNUSED not in kinds(longest_prompt=5000)
    assert CaveatKind.CONTEXT_UNUSED not in kinds(examples_shown=50)
    assert CaveatKind.CONTEXT_UNUSED not in kinds(shots=40)
    assert CaveatKind.CONTEXT_UNUSED not in kinds(is_mock=True)
    assert CaveatKind.CONTEXT_UNUSED not in kinds(declared_context=None)
