"""Records in words: each caveat has a message with its figures, and advice that can be followed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from harness.comparison.agreement import LARGEST_TOLERANCE, MEDIAN_TOLERANCE
from harness.report.words import MISSING, accuracy_sentence, data_sentence, presented, worded
from harness.scoring.accuracy import Ballots, score_accuracy
from harness.summary import (
    Caveat,
    CaveatKind,
    Cells,
    DataFacts,
    Missing,
    RunSummary,
    Summary,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tests.unit.report.conftest import Sample

CAVEATS: dict[CaveatKind, tuple[dict[str, Any], str]] = {
    CaveatKind.MOCK: ({}, "made up"),
    CaveatKind.CELLS_FAILED: ({"cells": 3, "reasons": ["3 x overflow"]}, "3 cells failed: 3 x ov"),
    CaveatKind.CELLS_MISSING: ({"cells": 4}, "4 cells"),
    CaveatKind.TRAIN_TEST_OVERLAP: ({"vectors": 5}, "5 test vectors"),
    CaveatKind.TOKENS_DIFFER: (
        {
            "voter": 2,
            "role": "query",
            "position": 3,
            "token": 17,
            "given": [{"id": 1, "text": "<bos>"}, {"id": 12, "text": "\u0120x"}],
            "own": [],
        },
        "voter 2, query 3, at token 17: the end and not '<bos>' (1) '\u0120x' (12).",
    ),
    CaveatKind.COVERS_CHANCE: ({"chance": 0.5}, "chance (0.50)"),
    CaveatKind.FEW_QUERIES: ({"queries": 15, "wanted": 100, "enough": 100}, "holds only 15"),
    CaveatKind.UNANSWERED: (
        {"unanswered": 10, "queries": 120, "vote": "soft"},
        "10 of 120 queries got no soft verdict",
    ),
    CaveatKind.LABELS_NOT_WRITTEN: ({"readable": 0.12, "vote": "soft"}, "Only 12 % of the replies"),
    CaveatKind.LOW_LABEL_MASS: ({"label_mass": 0.25}, "0.250"),
    CaveatKind.CALIBRATION_THIN: ({"examples": 4, "wanted": 20, "enough": 8}, "not on the 20"),
    CaveatKind.FEW_EXAMPLES: ({"shots": 60, "examples": 50}, "only 50 examples"),
    CaveatKind.CONTEXT_LIMITED: ({"limit": 8192, "wanted": 16384}, "8,192 tokens"),
    CaveatKind.CONTEXT_UNUSED: ({"declared": 8192, "used": 1000}, "takes 8,192 tokens"),
    CaveatKind.EXAMPLES_DROPPED: (
        {"shown": 40, "available": 50, "is_limited": False},
        "40 of 50 examples",
    ),
    CaveatKind.TEXTS_TOO_LONG: (
        {"examples": 3, "queries": 2, "limit": 1024},
        "1,024 tokens: 3 training texts take more than half of them",
    ),
    CaveatKind.SEVERAL_SESSIONS: ({"sessions": 2}, "2 sessions"),
    CaveatKind.PROCESSORS_SHARED: ({"share": 0.384}, "used 38 %"),
    CaveatKind.PROMPTS_NOT_EQUAL: ({}, "before each stood a random beginning"),
    CaveatKind.SERVER_FINDING: (
        {"kind": "prompt_cut", "declared": 1000, "seen": 300, "side": "head"},
        "300",
    ),
    CaveatKind.ENGINES_DISAGREE: (
        {
            "median": 0.88,
            "largest": 2.35,
            "median_tolerance": MEDIAN_TOLERANCE,
            "largest_tolerance": LARGEST_TOLERANCE,
        },
        "0.88 apart in the median and 2.35 at most; 0.3 and 1.5 are tolerated",
    ),
}


@pytest.mark.parametrize("kind", CaveatKind)
def test_every_caveat_has_its_figures_in_words_and_advice(kind: CaveatKind) -> None:
    figures, said = CAVEATS[kind]
    caveat = worded(Caveat(kind=kind, figures=figures))
    assert said in caveat.message
    assert caveat.advice.endswith(".")


def test_advice_follows_the_cause() -> None:
    def advice(kind: CaveatKind, **changes: Any) -> str:
        return worded(Caveat(kind=kind, figures={**CAVEATS[kind][0], **changes})).advice

    assert "--resume" in advice(CaveatKind.CELLS_FAILED)
    assert advice(CaveatKind.CELLS_FAILED, remedies=["Use cpu."]) == "Use cpu."
    assert "--queries" not in advice(CaveatKind.FEW_QUERIES)
    assert "--queries" in advice(CaveatKind.FEW_QUERIES, wanted=15)
    assert "--resume" in advice(CaveatKind.UNANSWERED)
    assert "--prompt" in advice(CaveatKind.UNANSWERED, vote="majority")
    assert "--max-model-len" in advice(CaveatKind.EXAMPLES_DROPPED)
    assert "--max-model-len" not in advice(CaveatKind.EXAMPLES_DROPPED, is_limited=True)
    assert "--calibration-queries" not in advice(CaveatKind.CALIBRATION_THIN)
    assert "--calibration-queries" in advice(CaveatKind.CALIBRATION_THIN, wanted=4)


def test_words_that_an_older_run_stored_are_left_as_they_are() -> None:
    old = Caveat(kind=CaveatKind.MOCK, message="A mock.", advice="Do not trust it.")
    assert worded(old) == old


def test_every_reason_for_a_missing_figure_has_words() -> None:
    assert set(MISSING) == set(Missing)


def voted(sample: Sample, right: int, queries: int) -> RunSummary:
    truth = np.arange(queries) % 2
    votes = np.where(np.arange(queries) < right, truth, 1 - truth)
    ballots = Ballots(truth, votes[np.newaxis], None, None)
    return sample.run(accuracy=score_accuracy(ballots, ("A", "B"), seed=0))


@pytest.mark.parametrize(
    ("right", "queries", "sentence"),
    [
        (54, 60, "Majority vote: 0.90 (0.80 to 0.95) on 60 queries; chance is 0.50."),
        (
            16,
            60,
            "Majority vote: 0.27 (0.17 to 0.39) on 60 queries;"
            " chance is 0.50: worse than guessing.",
        ),
        (
            30,
            60,
            "Majority vote: 0.50 (0.38 to 0.62) on 60 queries;"
            " the interval covers chance (0.50): not shown to beat guessing.",
        ),
    ],
)
def test_the_sentence_says_what_the_interval_allows(
    sample: Sample, right: int, queries: int, sentence: str
) -> None:
    assert accuracy_sentence(voted(sample, right, queries)) == sentence


def test_one_query_is_singular_and_none_is_no_verdict(sample: Sample) -> None:
    assert "on 1 query;" in accuracy_sentence(voted(sample, 0, 1))
    nobody = Ballots(np.arange(2), np.full((1, 2), -1), None, None)
    silent = sample.run(accuracy=score_accuracy(nobody, ("A", "B"), seed=0))
    assert accuracy_sentence(silent) == "No verdict: no reply could be read as a label."
    failed = silent.model_copy(update={"cells": Cells(done=0, failed=2)})
    assert accuracy_sentence(failed) == "No verdict: no prompt got a reply."


def test_what_json_shows_has_metrics_and_words(sample: Sample) -> None:
    caveat = Caveat(kind=CaveatKind.SEVERAL_SESSIONS, figures={"sessions": 2})
    summary: Summary = sample.summary(sample.run(caveats=[caveat]))
    [run] = presented(summary).runs
    assert run.metrics["load_seconds"] == summary.runs[0].speed.load_seconds
    assert run.accuracy.sentence
    assert "2 sessions" in run.caveats[0].message


FACTS: dict[str, Any] = {
    "kind": "text",
    "numbers": None,
    "train": 2000,
    "test": 600,
    "classes": 2,
    "text_column": "text",
}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"is_column_given": True}, "text (column text), 2,000 train, 600 test, 2 classes"),
        ({}, "text (column text, the only one beside the labels that is not numeric), 2,000 train"),
        ({"kind": "vectors", "numbers": 1280, "text_column": None}, "vectors of 1,280 numbers, 2"),
        ({"test_share": 0.3}, "; 30 % of each class chosen by content for testing"),
        ({"unused_columns": ["id", "stars"]}, "; not used: columns id, stars"),
        ({"unused_columns": list("abcdefgh")}, "columns a, b, c, d, e and 3 more"),
        ({"unused_rows": 1200}, "; not used: 1,200 rows of a validation split"),
        ({"without_text": 3}, "; left out: 3 rows without text"),
    ],
)
def test_what_the_data_are_is_said(changes: dict[str, Any], said: str) -> None:
    sentence = data_sentence("reviews.csv", DataFacts(**{**FACTS, **changes}))
    assert sentence.startswith("reviews.csv: ")
    assert said in sentence


def test_of_texts_no_numbers_are_spoken_of() -> None:
    figures = CAVEATS[CaveatKind.EXAMPLES_DROPPED][0]
    kind = CaveatKind.EXAMPLES_DROPPED
    assert "shorter texts" in worded(Caveat(kind=kind, figures={**figures, "is_text": True})).advice
    shared = worded(Caveat(kind=CaveatKind.TRAIN_TEST_OVERLAP, figures={"texts": 5}))
    assert "5 test texts" in shared.message
