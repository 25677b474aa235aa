"""What a comparison finds between sides made by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.comparison.compare import agreements, compare, first_difference, spec_differences
from harness.comparison.records import Compared, Comparison, FieldDifference, PromptDifference, What
from harness.comparison.sides import Side
from harness.imports.records import Figure
from harness.metrics import Difference, Verdict
from harness.spec import RunSpec
from harness.store.schema import TokensRow
from tests.unit.comparison.test_history import ENVIRONMENT, INFO
from tests.unit.comparison.test_sides import VOTERS, Made, fields_of, imported, side

PLAIN = side()
PLACES = st.integers(0, len(PLAIN.prompts) - 1)
SPEED = "prefill_tokens_per_second"


def changed(one: Side, **changes: Any) -> Side:
    return Side(**{**fields_of(one), **changes})


def compared(*sides: Side) -> Compared:
    return compare([], sides)


def against(first: Side, other: Side) -> Comparison:
    [found] = compared(first, other).against_first
    return found


def by_metric(one: Comparison) -> dict[str, Difference]:
    return {found.metric: found for found in one.differences}


def expected(place: int, what: What) -> PromptDifference:
    prompt = PLAIN.prompts[place]
    return PromptDifference(
        voter=prompt.voter, role=prompt.role, position=prompt.position, what=what
    )


def test_equal_prompts_do_not_differ() -> None:
    assert first_difference(PLAIN, side(Made(run_id="b"))) is None


@given(PLACES)
def test_the_first_text_that_differs_is_found(place: int) -> None:
    prompts = [
        replace(prompt, text_sha256="x") if at >= place else prompt
        for at, prompt in enumerate(PLAIN.prompts)
    ]
    other = changed(PLAIN, prompts=prompts)
    for pair in ((PLAIN, other), (other, PLAIN)):
        assert first_difference(*pair) == expected(place, "text")


@given(PLACES)
def test_the_first_tokens_that_differ_are_found(place: int) -> None:
    tokens = [TokensRow("x", 5) if at >= place else row for at, row in enumerate(PLAIN.tokens)]
    other = changed(PLAIN, tokens=tokens)
    for pair in ((PLAIN, other), (other, PLAIN)):
        assert first_difference(*pair) == expected(place, "tokens")


@given(PLACES)
def test_a_missing_prompt_is_found_from_both_sides(place: int) -> None:
    fewer = changed(
        PLAIN,
        prompts=[*PLAIN.prompts[:place], *PLAIN.prompts[place + 1 :]],
        tokens=PLAIN.tokens[1:],
    )
    for pair in ((PLAIN, fewer), (fewer, PLAIN)):
        assert first_difference(*pair) == expected(place, "missing")


def test_text_goes_before_tokens() -> None:
    assert first_difference(PLAIN, side(Made(text="x", token="x"))) == expected(0, "text")


def test_specs_differ_in_the_fields_that_differ_and_are_not_seen_elsewhere() -> None:
    ones = RunSpec(seed=1, shots=4, backend=("mock",))
    others = RunSpec(seed=2, engine={"threads": 2}, prompts_from="a")
    assert spec_differences(ones, others) == [
        FieldDifference(field="seed", first=1, other=2),
        FieldDifference(field="shots", first=4, other=None),
        FieldDifference(field="engine", first={}, other={"threads": 2}),
    ]


def test_the_same_under_the_same_conditions_has_nothing_to_warn_of() -> None:
    found = against(PLAIN, side(Made(run_id="b")))
    assert (found.same_text, found.same_tokens, found.elsewhere) == (True, True, False)
    assert (found.first_difference, found.spec, found.conditions, found.flips) == (None, [], [], [])
    assert {one.verdict for one in found.differences} == {Verdict.NO_DIFFERENCE_SHOWN}
    assert list(by_metric(found)) == [
        "accuracy",
        "parse_rate",
        SPEED,
        "decode_tokens_per_second",
        "time_to_first_token_ms",
    ]


def conditions(other: Made) -> list[str]:
    return [one.field for one in against(PLAIN, side(other)).conditions]


def test_machine_and_packages_are_conditions_and_when_it_was_is_not() -> None:
    moved = ENVIRONMENT.model_copy(
        update={
            "cpu": "Xeon",
            "memory_mib": 16000,
            "created": "2027",
            "packages": {"numpy": "2.1", "scipy": "1"},
        }
    )
    found = against(PLAIN, side(Made(environment=moved))).conditions
    assert [(one.field, one.first, one.other) for one in found] == [
        ("cpu", "EPYC", "Xeon"),
        ("memory_mib", 8000, 16000),
        ("packages.numpy", "2.0", "2.1"),
        ("packages.scipy", None, "1"),
    ]


def test_versions_and_weights_are_conditions_of_the_same_engine_only() -> None:
    newer = replace(INFO, engine_version="2", weights="Q8", threads=4)
    assert conditions(Made(info=newer)) == ["threads", "engine_version", "weights"]
    assert conditions(Made(info=newer, backend="another")) == ["threads"]


def test_another_model_file_is_a_condition() -> None:
    other = changed(PLAIN, session=replace(PLAIN.session, model_sha256="n"))
    [found] = against(PLAIN, other).conditions
    assert (found.field, found.first, found.other) == ("model_sha256", "m", "n")


def test_rows_of_one_file_are_paired_whatever_else_was_asked() -> None:
    other = side(Made("++++", first_row=102, text="x"), seed=9)
    found = by_metric(against(PLAIN, other))["accuracy"]
    assert (found.paired, found.samples, found.change) == (True, (2, 2), 1.0)


@pytest.mark.parametrize("specs", [[{"data": "other.npz"}], [{"data": "digits", "seed": 1}]])
def test_rows_of_other_data_are_not_paired(specs: list[dict[str, Any]]) -> None:
    first = side(data="digits", seed=0)
    found = against(first, side(Made("++++"), **specs[0]))
    assert not by_metric(found)["accuracy"].paired
    assert by_metric(found)["accuracy"].samples == (4, 4)
    assert found.flips == []


def test_nothing_in_common_is_not_compared() -> None:
    other = side(Made("++++", first_row=500))
    assert "accuracy" not in by_metric(against(PLAIN, other))
    assert SPEED in by_metric(against(PLAIN, other))


def test_flips_are_queries_that_both_answered_in_the_order_of_the_first() -> None:
    first, other = side(Made("+-+-.+")), side(Made("-++.++", first_row=100))
    found = against(first, other).flips
    assert [(flip.position, flip.row) for flip in found] == [(0, 100), (1, 101)]
    assert [(flip.truth, flip.first, flip.other) for flip in found] == [
        ("FAKE", "FAKE", "REAL"),
        ("REAL", "FAKE", "REAL"),
    ]


def test_flips_find_the_same_query_at_another_position() -> None:
    first, other = side(Made("++++")), side(Made("-+", first_row=102))
    [flip] = against(first, other).flips
    assert (flip.position, flip.row, flip.truth) == (2, 102, "FAKE")
    assert (flip.first, flip.other) == ("FAKE", "REAL")


def faster(run_id: str, times: float) -> Side:
    steady = [(10, 1 / times), (10, 1.1 / times)] * 20
    return side(Made(run_id=run_id, batches=steady))


def test_p_values_are_adjusted_for_all_that_are_compared_with_the_first() -> None:
    sides = faster("a", 1), faster("b", 1.02), faster("c", 1.3)
    alone = [by_metric(against(sides[0], other))[SPEED].p_value for other in sides[1:]]
    found = [by_metric(one)[SPEED] for one in compared(*sides).against_first]
    assert [one.p_value for one in found] == alone
    assert None not in alone
    smallest = min(p for p in alone if p is not None)
    assert min(one.p_adjusted or 0 for one in found) == pytest.approx(2 * smallest)
    assert found[1].verdict is Verdict.BETTER


def test_cochrans_q_is_of_three_or_more_over_the_same_data() -> None:
    sides = [side(Made(marks, run_id=marks)) for marks in ("++--", "+-+-", "++++")]
    assert compared(*sides[:2]).same_accuracy_p is None
    p_value = compared(*sides).same_accuracy_p
    assert p_value is not None
    assert 0 < p_value < 1
    assert compared(*sides[:2], side(data="other.npz")).same_accuracy_p is None
    assert compared(*sides[:2], side(Made(first_row=500))).same_accuracy_p is None
    assert compared(*sides[:2], side(Made("...."))).same_accuracy_p is None


def test_agreements_are_of_each_pair() -> None:
    sides = [side(Made(run_id=name)) for name in "abc"]
    pairs = [(one.first.run_id, one.other.run_id) for one in compared(*sides).agreements]
    assert pairs == [("a", "b"), ("a", "c"), ("b", "c")]
    assert compared(*sides).agreements == agreements(sides)
    assert compared(*sides).agreements[0].prompts == VOTERS * 2 * 4


FIGURE = Figure(metric=SPEED, unit="tokens/s", value=400.0, samples=(390.0, 400.0, 410.0))


def test_what_another_tool_has_measured_is_compared_by_what_it_has() -> None:
    row = imported(FIGURE)
    for pair in ((PLAIN, row), (row, PLAIN)):
        found = compare([], pair)
        [one] = found.against_first
        assert (one.elsewhere, one.same_text, one.same_tokens) == (True, False, False)
        assert (list(by_metric(one)), found.agreements, len(found.imports)) == ([SPEED], [], 1)
        assert by_metric(one)[SPEED].verdict is Verdict.TOO_FEW
        assert [field.field for field in one.conditions] == ["tool", "engine", "test", "model"]


def test_of_two_imports_what_both_tell_counts_but_not_when() -> None:
    later = {"n_threads": "4", "test_time": "2027", "gpu_info": "some"}
    other = replace(imported(FIGURE, conditions=later), import_id="import-bb")
    [one] = compare([], (imported(FIGURE), other)).against_first
    assert [(field.field, field.first, field.other) for field in one.conditions] == [
        ("n_threads", "2", "4")
    ]


def test_imports_of_other_figures_have_nothing_in_common() -> None:
    unlike = imported(Figure(metric="acc_norm,none", unit="", value=0.5))
    [one] = compare([], (PLAIN, unlike)).against_first
    assert one.differences == []


def test_three_sides_with_an_import_have_no_common_queries() -> None:
    accuracy = imported(Figure(metric="accuracy", unit="share", value=0.5, count=8))
    found = compare([], (PLAIN, side(Made(run_id="b")), accuracy))
    assert found.same_accuracy_p is None
    assert [by_metric(one)["accuracy"].paired for one in found.against_first] == [True, False]


def test_what_is_printed_as_json_reads_back() -> None:
    sides = PLAIN, side(Made("+-+-", run_id="b", text="x"), seed=3), imported(FIGURE)
    whole = compare([], sides)
    assert Compared.model_validate_json(whole.model_dump_json()) == whole
