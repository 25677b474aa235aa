from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.config import RunSpec
from harness.report.compare import (
    Compared,
    PromptDifference,
    compare,
    describe,
    first_difference,
    spec_differences,
)
from harness.summary import PromptHashes

if TYPE_CHECKING:
    from tests.unit.report.conftest import Sample


@dataclass(frozen=True, slots=True)
class Prompt:
    voter: int
    role: str
    position: int
    text_sha256: str = "text"
    token_sha256: str = "tokens"


PROMPTS = [
    Prompt(voter, role, position)
    for voter in range(2)
    for role in ("query", "calibration")
    for position in range(3)
]

SIZES = st.integers(0, len(PROMPTS) - 1)


@given(SIZES)
def test_equal_prompts_do_not_differ(count: int) -> None:
    assert first_difference(PROMPTS[:count], PROMPTS[:count]) is None


@given(SIZES, st.sampled_from(["text", "tokens"]))
def test_first_difference_is_found_where_it_is(place: int, what: str) -> None:
    changes: dict[str, Any] = {f"{what.removesuffix('s')}_sha256": "other"}
    changed = PROMPTS[:place] + [replace(prompt, **changes) for prompt in PROMPTS[place:]]
    there = PROMPTS[place]
    expected = {"voter": there.voter, "role": there.role, "position": there.position, "what": what}
    for one, other in ((PROMPTS, changed), (changed, PROMPTS)):
        found = first_difference(one, other)
        assert found is not None
        assert found.model_dump() == expected


@given(SIZES)
def test_missing_prompt_is_found_from_both_sides(place: int) -> None:
    fewer = PROMPTS[:place] + PROMPTS[place + 1 :]
    there = PROMPTS[place]
    expected = PromptDifference(
        voter=there.voter, role=there.role, position=there.position, what="missing"
    )
    assert first_difference(PROMPTS, fewer) == expected
    assert first_difference(fewer, PROMPTS) == expected


def test_text_goes_before_tokens() -> None:
    other = [replace(PROMPTS[0], text_sha256="x", token_sha256="y")]
    found = first_difference(PROMPTS[:1], other)
    assert found is not None
    assert found.what == "text"


def test_specs_differ_in_the_fields_that_differ() -> None:
    found = spec_differences(RunSpec(seed=1, shots=4), RunSpec(seed=2, engine={"threads": 2}))
    assert [(one.field, one.first, one.other) for one in found] == [
        ("seed", 1, 2),
        ("shots", 4, None),
        ("engine", {}, {"threads": 2}),
    ]


def test_same_prompts(sample: Sample) -> None:
    found = compare(sample.kept(run_id="a"), sample.kept(run_id="b"), PROMPTS, PROMPTS)
    assert (found.same_text, found.same_tokens, found.first_difference) == (True, True, None)
    assert describe("a", found) == ["b against a: asked the same prompts."]


def test_another_tokenizer(sample: Sample) -> None:
    retokenized = sample.run(prompts=PromptHashes(text_sha256="aa", token_sha256="other"))
    prompts = [replace(prompt, token_sha256="other") for prompt in PROMPTS]
    found = compare(sample.kept(run_id="a"), sample.kept(retokenized, run_id="b"), PROMPTS, prompts)
    assert (found.same_text, found.same_tokens) == (True, False)
    said = describe("a", found)
    assert "other tokens" in said[0]
    assert said[1] == "They first differ at voter 0, query 0: the same text, other tokens."


def test_each_backend_is_compared_with_itself(sample: Sample) -> None:
    mock = sample.mock(prompts=PromptHashes(text_sha256="aa", token_sha256="bytes"))
    both = sample.kept(sample.run(), mock, run_id="a")
    turned = sample.kept(mock, sample.run(), run_id="b")
    retokenized = [replace(prompt, token_sha256="bytes") for prompt in PROMPTS]
    found = compare(both, turned, PROMPTS, retokenized)
    assert (found.same_text, found.same_tokens, found.first_difference) == (True, True, None)
    assert compare(both, sample.kept(mock), PROMPTS, retokenized).same_tokens


def test_one_backend_that_was_asked_otherwise_is_enough(sample: Sample) -> None:
    changed = sample.mock(prompts=PromptHashes(text_sha256="cc", token_sha256="dd"))
    one, two = sample.kept(sample.run(), sample.mock()), sample.kept(sample.run(), changed)
    found = compare(one, two, PROMPTS, PROMPTS)
    assert (found.same_text, found.same_tokens) == (False, False)


def test_without_a_backend_in_common_all_have_to_agree(sample: Sample) -> None:
    retokenized = sample.mock(prompts=PromptHashes(text_sha256="aa", token_sha256="bytes"))
    one = sample.kept(sample.run())
    assert compare(one, sample.kept(sample.mock()), PROMPTS, PROMPTS).same_tokens
    found = compare(one, sample.kept(retokenized), PROMPTS, PROMPTS)
    assert (found.same_text, found.same_tokens) == (True, False)


def test_other_prompts_say_what_differs_and_where(sample: Sample) -> None:
    other = sample.run(prompts=PromptHashes(text_sha256="cc", token_sha256="dd"))
    prompts = [*PROMPTS[:4], replace(PROMPTS[4], text_sha256="other"), *PROMPTS[5:]]
    found = compare(
        sample.kept(run_id="a"), sample.kept(other, run_id="b", seed=7), PROMPTS, prompts
    )
    assert describe("a", found) == [
        "b against a: asked other prompts: their accuracy and speed are not comparable.",
        "Their specs differ in: seed 0 / 7.",
        "They first differ at voter 0, calibration 1: another text.",
    ]


@pytest.mark.parametrize("count", [1, 2])
def test_what_is_printed_as_json_reads_back(sample: Sample, count: int) -> None:
    kept = sample.kept()
    fewer = sample.kept(sample.run(prompts=PromptHashes(text_sha256="cc", token_sha256="dd")))
    one = compare(kept, fewer, PROMPTS, PROMPTS[:-1])
    assert one.first_difference
    whole = Compared(runs=[kept.summary], against_first=[one] * count)
    assert Compared.model_validate_json(whole.model_dump_json()) == whole
