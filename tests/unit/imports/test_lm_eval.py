from __future__ import annotations

import pytest
from pydantic import ValidationError

from harness.comparison.metrics import METRICS
from harness.imports.lm_eval import read_lm_eval
from harness.imports.records import Figure
from tests.unit.imports.conftest import LM_EVAL


def test_tasks_with_figures_are_imports_and_headings_are_not() -> None:
    imported = read_lm_eval(LM_EVAL)
    assert [one.test for one in imported] == ["some_task", "words"]
    assert {(one.tool, one.tool_version, one.engine, one.model) for one in imported} == {
        ("lm-eval", "0.4.9", "hf", "org/model")
    }


def test_accuracy_is_acc_and_everything_else_keeps_its_name() -> None:
    task, words = read_lm_eval(LM_EVAL)
    assert task.figures == (
        Figure(metric="accuracy", unit="share", value=0.625, stderr=0.034, count=200),
        Figure(metric="acc_norm,none", unit="", value=0.5, count=200),
        Figure(metric="exact_match,strict-match", unit="", value=0.25, stderr=0.03, count=200),
    )
    assert [(one.metric, one.value, one.count) for one in words.figures] == [
        ("word_perplexity,none", 31.5, None)
    ]
    assert [one.metric for one in task.figures if one.metric in METRICS] == ["accuracy"]


def test_conditions_are_the_tasks_own_and_the_common_ones() -> None:
    task, words = read_lm_eval(LM_EVAL)
    assert task.conditions["n-shot"] == "5"
    assert task.conditions["task_hashes"] == "77aa"
    assert task.conditions["limit"] == "200.0"
    assert task.conditions["date"].startswith("2026-01-02T")
    assert (words.conditions["n-shot"], words.conditions["versions"]) == ("0", "2")
    assert {"pretty_env_info", "chat_template"}.isdisjoint(task.conditions)


def test_a_group_counts_the_documents_of_its_tasks() -> None:
    group = {"alias": "g", "acc,none": 0.5, "acc_stderr,none": 0.1, "sample_len": 30}
    [imported] = read_lm_eval({**LM_EVAL, "results": {"g": group}})
    assert imported.figures[0].count == 30


@pytest.mark.parametrize("date", [1e300, float("nan"), "yesterday", None])
def test_a_date_that_is_none_is_left_out(date: object) -> None:
    assert "date" not in read_lm_eval({**LM_EVAL, "date": date})[0].conditions


@pytest.mark.parametrize(
    "changed",
    [
        {"results": []},
        {"results": {"task": 0.5}},
        {"results": {"task": {"acc,none": 62.5}}},
        {"config": "hf"},
        {"model_name": 5},
        {"n-samples": {"some_task": {"effective": "all"}}},
        {"n-samples": {"some_task": {"effective": 1_000_000_000_000}}},
        {"n-samples": {}, "results": {"g": {"acc,none": 0.5, "sample_len": 1_000_000_000_000}}},
    ],
)
def test_what_is_not_as_expected_is_refused(changed: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        read_lm_eval({**LM_EVAL, **changed})
