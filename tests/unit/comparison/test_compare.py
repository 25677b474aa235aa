"""What a comparison finds between sides made by hand."""

from __future__ import annotations

from dataclasses import replace
from itertools import zip_longest
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.comparison.compare import (
    agreements,
    compare,
    first_difference,
    leads,
    spec_differences,
    unpaired_because,
)
from harness.comparison.metrics import METRICS
from harness.comparison.records import (
    Compared,
    Comparison,
    FieldDifference,
    Lead,
    PromptDifference,
    What,
)
from harness.imports.records import Figure
from harness.metrics import Difference, Outcome
from harness.record import Estimate
from harness.spec import RunSpec
from harness.stats.significance import turned
from harness.store.runs import Side, StoredEntry
from harness.store.schema import TokensRow
from tests.unit.comparison.made import (
    ENVIRONMENT,
    INFO,
    SESSION,
    VOTERS,
    Made,
    entry,
    imported,
    stored_run,
    summary_of,
)
from tests.unit.report.conftest import RUN

PLAIN = entry()
STORE = Made().store
PLACES = st.integers(0, len(STORE.prompts_of) - 1)
LAST = [
    place
    for place, (prompt, after) in enumerate(zip_longest(STORE.prompts_of, STORE.prompts_of[1:]))
    if after is None or after.role != prompt.role
]  # of its voter and role: what lacks any other one is a damaged run
SPEED = "prefill_tokens_per_second"


def changed(**changes: Any) -> StoredEntry:
    """The plain one, with something else in its store."""
    return entry(Made(run_id="b"), store=replace(STORE, **changes))


def compared(*sides: Side) -> Compared:
    return compare(sides)


def against(first: Side, other: Side) -> Comparison:
    [found] = compared(first, other).against_first
    return found


def by_metric(one: Comparison) -> dict[str, Difference]:
    return {found.metric: found for found in one.differences}


def expected(place: int, what: What) -> PromptDifference:
    prompt = STORE.prompts_of[place]
    return PromptDifference(
        voter=prompt.voter, role=prompt.role, position=prompt.position, what=what
    )


def test_equal_prompts_do_not_differ() -> None:
    assert first_difference(PLAIN, entry(Made(run_id="b"))) is None


@given(PLACES)
def test_the_first_text_that_differs_is_found(place: int) -> None:
    prompts = [
        replace(prompt, text_sha256="x") if at >= place else prompt
        for at, prompt in enumerate(STORE.prompts_of)
    ]
    other = changed(prompts_of=prompts)
    for pair in ((PLAIN, other), (other, PLAIN)):
        assert first_difference(*pair) == expected(place, "text")


@given(PLACES)
def test_the_first_tokens_that_differ_are_found(place: int) -> None:
    tokens = [TokensRow("x", 5) if at >= place else row for at, row in enumerate(STORE.tokens_of)]
    other = changed(tokens_of=tokens)
    for pair in ((PLAIN, other), (other, PLAIN)):
        assert first_difference(*pair) == expected(place, "tokens")


@pytest.mark.parametrize("place", LAST)
def test_a_missing_prompt_is_found_from_both_sides(place: int) -> None:
    fewer = changed(
        prompts_of=[*STORE.prompts_of[:place], *STORE.prompts_of[place + 1 :]],
        tokens_of=STORE.tokens_of[1:],
    )
    for pair in ((PLAIN, fewer), (fewer, PLAIN)):
        assert first_difference(*pair) == expected(place, "missing")


def test_text_goes_before_tokens() -> None:
    assert first_difference(PLAIN, entry(Made(text="x", token="x"))) == expected(0, "text")


def test_specs_differ_in_the_fields_that_differ_and_are_not_seen_elsewhere() -> None:
    ones = RunSpec(seed=1, shots=4, backend=("mock",))
    others = RunSpec(seed=2, engine={"threads": 2}, prompts_from="a")
    assert spec_differences(ones, others) == [
        FieldDifference(field="seed", first=1, other=2),
        FieldDifference(field="shots", first=4, other=None),
        FieldDifference(field="engine", first={}, other={"threads": 2}),
    ]


def test_the_same_under_the_same_conditions_has_nothing_to_warn_of() -> None:
    found = against(PLAIN, entry(Made(run_id="b")))
    assert (found.same_text, found.same_tokens, found.elsewhere) == (True, True, False)
    assert found.prompts_equal is True
    assert (found.first_difference, found.spec, found.conditions, found.flips) == (None, [], [], [])
    verdicts = {one.metric: one.outcome for one in found.differences}
    of_a_session = ("peak_rss_mib", "load_seconds")
    known = {"examples_per_voter": Outcome.SAME, **dict.fromkeys(of_a_session, Outcome.TOO_FEW)}
    summary = PLAIN.summary
    assert verdicts == {
        name: known.get(name, Outcome.NO_SIGNIFICANT_DIFFERENCE)
        for name, metric in METRICS.items()
        if metric.figure(summary) is not None
    }


def conditions(other: Made) -> list[str]:
    return [one.field for one in against(PLAIN, entry(other)).conditions]


def test_machine_and_packages_are_conditions_and_when_it_was_is_not() -> None:
    moved = ENVIRONMENT.model_copy(
        update={
            "cpu": "Xeon",
            "memory_mib": 16000,
            "created": "2027",
            "packages": {"numpy": "2.1", "scipy": "1"},
        }
    )
    found = against(PLAIN, entry(Made(environment=moved))).conditions
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
    [found] = against(PLAIN, entry(Made(model_sha256="n"))).conditions
    assert (found.field, found.first, found.other) == ("model_sha256", "m", "n")


def test_conditions_are_those_of_every_session() -> None:
    """A run that was resumed on another machine, with another version."""
    moved = ENVIRONMENT.model_copy(update={"cpu": "Xeon"}).model_dump_json()
    info = replace(INFO, threads=4)
    later = [replace(SESSION, id=2, info=info, environment=moved), replace(SESSION, id=3)]
    found = against(PLAIN, entry(Made(run_id="b", later_sessions=later))).conditions
    assert [(one.field, one.first, one.other) for one in found] == [
        ("cpu", "EPYC", ["EPYC", "Xeon"]),
        ("threads", 2, [2, 4]),
    ]


def test_a_run_without_sessions_has_the_conditions_of_its_machine() -> None:
    moved = ENVIRONMENT.model_copy(update={"cpu": "Xeon"})
    other = entry(Made(environment=moved), store=replace(STORE, sessions_of=[]))
    found = against(PLAIN, other).conditions
    assert found[0] == FieldDifference(field="cpu", first="EPYC", other="Xeon")
    assert [one.other for one in found if one.field in ("threads", "model_sha256")] == [None, None]


def test_rows_of_equal_data_are_paired_whatever_else_was_given() -> None:
    other = entry(Made("++++", run_id="b", first_row=102, text="x"), seed=9, data="./small.npz")
    whole = against(PLAIN, other)
    found = by_metric(whole)["accuracy"]
    assert (found.paired, found.samples, found.change) == (True, (2, 2), 1.0)
    assert whole.unpaired_because is None
    # and where they were read is no difference
    assert {one.field for one in whole.spec} == {"seed"}


def test_a_file_that_was_written_again_under_its_name_is_other_data() -> None:
    """The same path, the same rows, and other classes in them."""
    other = entry(Made("++++", run_id="b", data_sha256="other"))
    found = against(PLAIN, other)
    assert found.spec == []
    assert found.unpaired_because == "their data are not the same"
    # more of other texts is no gain
    assert "examples_per_voter" not in by_metric(found)
    assert "examples_per_voter" in by_metric(against(PLAIN, entry(Made("++++", run_id="b"))))
    assert not by_metric(found)["accuracy"].paired
    assert by_metric(found)["accuracy"].samples == (4, 4)
    assert found.flips == []


@pytest.mark.parametrize("hashes", [(None, "data"), ("data", None), (None, None)])
def test_a_run_without_the_identity_of_its_data_is_paired_with_no_other(
    hashes: tuple[str | None, str | None],
) -> None:
    first, other = (
        entry(Made(run_id=name, data_sha256=known))
        for name, known in zip("ab", hashes, strict=True)
    )
    whole = against(first, other)
    assert not by_metric(whole)["accuracy"].paired
    nameless = "b" if hashes[0] else "a"
    assert whole.unpaired_because == (f"run {nameless} was stored without the identity of its data")


def test_two_entries_of_one_run_are_always_paired() -> None:
    runs = [summary_of(name, accuracy=PLAIN.summary.accuracy) for name in ("one", "two")]
    run = stored_run(RunSpec(), runs, STORE, data_sha256=None)
    one, two = run.entries.values()
    assert unpaired_because(one, two) is None
    assert by_metric(against(one, two))["accuracy"].paired
    found = compared(one, two)
    assert [summary.run_id for summary in found.runs] == ["a"]
    assert [found.agreements[0].first.entry, found.agreements[0].other.entry] == ["one", "two"]


def test_nothing_in_common_is_not_compared() -> None:
    other = entry(Made("++++", run_id="b", first_row=500))
    assert "accuracy" not in by_metric(against(PLAIN, other))
    assert SPEED in by_metric(against(PLAIN, other))


def test_flips_are_queries_that_both_answered_in_the_order_of_the_first() -> None:
    first, other = entry(Made("+-+-.+")), entry(Made("-++.++", first_row=100))
    found = against(first, other).flips
    assert [(flip.position, flip.row) for flip in found] == [(0, 100), (1, 101)]
    assert [(flip.truth, flip.first, flip.other) for flip in found] == [
        ("FAKE", "FAKE", "REAL"),
        ("REAL", "FAKE", "REAL"),
    ]


def test_flips_find_the_same_query_at_another_position() -> None:
    first, other = entry(Made("++++")), entry(Made("-+", first_row=102))
    [flip] = against(first, other).flips
    assert (flip.position, flip.row, flip.truth) == (2, 102, "FAKE")
    assert (flip.first, flip.other) == ("FAKE", "REAL")


def faster(run_id: str, times: float) -> StoredEntry:
    steady = [(10, 1 / times), (10, 1.1 / times)] * 20
    speed = RUN.speed.model_copy(update={SPEED: times})
    return entry(Made(run_id=run_id, batches=steady, summary={"speed": speed}))


def lead(found: Compared, metric: str = SPEED) -> Lead:
    [one] = [lead for lead in found.leads if lead.metric == metric]
    return one


def test_the_side_that_is_ahead_is_compared_with_every_other() -> None:
    found = compared(faster("a", 1.3), faster("b", 1), faster("c", 2))
    one = lead(found)
    assert (one.best.run_id, one.ahead_of_all) == ("c", True)
    assert [over.side.run_id for over in one.over] == ["a", "b"]
    assert [over.difference.change for over in one.over] == pytest.approx([2 / 1.3, 2])
    # One pair has one p-value, wherever it is shown.
    assert one.over[0].difference == by_metric(found.against_first[1])[SPEED]
    assert leads([faster("a", 1.3), faster("b", 1), faster("c", 2)]) == found.leads


def test_a_first_side_that_is_ahead_is_so_by_the_same_test() -> None:
    found = compared(faster("a", 2), faster("b", 1))
    [over] = lead(found).over
    there = by_metric(found.against_first[0])[SPEED]
    assert over.difference == turned(there)
    assert (there.outcome, over.difference.outcome) == (Outcome.WORSE, Outcome.BETTER)


def test_who_is_not_ahead_of_every_other_is_not_ahead_of_all() -> None:
    assert not lead(compared(faster("a", 1), faster("b", 1.001), faster("c", 0.5))).ahead_of_all
    same = lead(compared(PLAIN, entry(Made(run_id="b"))), "examples_per_voter")
    assert (same.ahead_of_all, same.over[0].difference.outcome) == (False, Outcome.SAME)


def test_an_entry_of_which_nothing_was_read_has_no_accuracy_to_compare() -> None:
    nothing = RUN.parse.model_copy(update={"lenient": Estimate(value=0, low=0, high=0.1)})
    found = compared(PLAIN, entry(Made(run_id="b", summary={"parse": nothing})))
    assert "accuracy" not in by_metric(found.against_first[0])
    assert [one.metric for one in found.leads if one.metric == "accuracy"] == []


def test_p_values_are_adjusted_for_all_pairs_that_are_looked_at() -> None:
    sides = faster("a", 1.4), faster("b", 1.02), faster("c", 1.3)
    alone = [by_metric(against(sides[0], other))[SPEED].p_value for other in sides[1:]]
    found = [by_metric(one)[SPEED] for one in compared(*sides).against_first]
    assert [one.p_value for one in found] == alone
    assert None not in alone
    smallest = min(p for p in alone if p is not None)
    assert min(one.p_adjusted or 0 for one in found) == pytest.approx(2 * smallest)
    assert found[0].outcome is Outcome.WORSE
    sides = faster("a", 1), faster("b", 1.02), faster("c", 1.3)
    found = [by_metric(one)[SPEED] for one in compared(*sides).against_first]
    others = by_metric(against(sides[1], sides[2]))[SPEED].p_value
    every = [one.p_value for one in found] + [others]
    smallest = min(p for p in every if p is not None)
    assert min(one.p_adjusted or 0 for one in found) == pytest.approx(3 * smallest)


def test_cochrans_q_is_of_three_or_more_over_the_same_data() -> None:
    sides = [entry(Made(marks, run_id=marks)) for marks in ("++--", "+-+-", "++++")]
    assert compared(*sides[:2]).same_accuracy_p is None
    p_value = compared(*sides).same_accuracy_p
    assert p_value is not None
    assert 0 < p_value < 1
    assert compared(*sides[:2], entry(Made(run_id="c", data_sha256="x"))).same_accuracy_p is None
    assert compared(*sides[:2], entry(Made(run_id="d", first_row=500))).same_accuracy_p is None
    assert compared(*sides[:2], entry(Made("....", run_id="e"))).same_accuracy_p is None


def test_agreements_are_of_each_pair() -> None:
    sides = [entry(Made(run_id=name)) for name in "abc"]
    pairs = [(one.first.run_id, one.other.run_id) for one in compared(*sides).agreements]
    assert pairs == [("a", "b"), ("a", "c"), ("b", "c")]
    assert compared(*sides).agreements == agreements(sides)
    assert compared(*sides).agreements[0].prompts == VOTERS * 2 * 4


FIGURE = Figure(metric=SPEED, unit="tokens/s", value=400.0, samples=(390.0, 400.0, 410.0))


def test_what_another_tool_has_measured_is_compared_by_what_it_has() -> None:
    row = imported(FIGURE)
    for pair in ((PLAIN, row), (row, PLAIN)):
        found = compare(pair)
        [one] = found.against_first
        assert (one.elsewhere, one.same_text, one.same_tokens) == (True, False, False)
        assert one.prompts_equal is None
        assert (list(by_metric(one)), found.agreements, len(found.imports)) == ([SPEED], [], 1)
        assert by_metric(one)[SPEED].outcome is Outcome.TOO_FEW
        assert [field.field for field in one.conditions] == ["tool", "engine", "test", "model"]


def test_of_two_imports_what_both_tell_counts_but_not_when() -> None:
    later = {"n_threads": "4", "test_time": "2027", "gpu_info": "some"}
    other = replace(imported(FIGURE, conditions=later), import_id="import-bb")
    [one] = compare((imported(FIGURE), other)).against_first
    assert [(field.field, field.first, field.other) for field in one.conditions] == [
        ("n_threads", "2", "4")
    ]


def test_imports_of_other_figures_have_nothing_in_common() -> None:
    unlike = imported(Figure(metric="acc_norm,none", unit="", value=0.5))
    [one] = compare((PLAIN, unlike)).against_first
    assert one.differences == []


def test_three_sides_with_an_import_have_no_common_queries() -> None:
    accuracy = imported(Figure(metric="accuracy", unit="share", value=0.5, count=8))
    found = compare((PLAIN, entry(Made(run_id="b")), accuracy))
    assert found.same_accuracy_p is None
    assert [by_metric(one)["accuracy"].paired for one in found.against_first] == [True, False]
    assert found.against_first[1].unpaired_because == "another tool has measured one of them"
    member = found.against_first[1].other
    assert (member.run_id, member.entry, member.backend) == ("import-aa", "llama.cpp", "llama.cpp")


def test_what_is_printed_as_json_reads_back() -> None:
    sides = PLAIN, entry(Made("+-+-", run_id="b", text="x"), seed=3), imported(FIGURE)
    whole = compare(sides)
    assert Compared.model_validate_json(whole.model_dump_json()) == whole
