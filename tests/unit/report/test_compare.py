from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.config import RunSpec
from harness.report.compare import (
    Asked,
    Compared,
    PromptDifference,
    What,
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


PROMPTS = [
    Prompt(voter, role, position)
    for voter in range(2)
    for role in ("query", "calibration")
    for position in range(3)
]

SIZES = st.integers(0, len(PROMPTS) - 1)


def asked(prompts: Sequence[Prompt] = PROMPTS, *, since: int = 1000, mock: str = "bb") -> Asked:
    """What two backends were asked; from the prompt at `since` on, llama-cpp has other tokens."""
    own = ["bb" if place < since else "other" for place in range(len(prompts))]
    return Asked(prompts, {"llama-cpp": own, "mock": [mock] * len(prompts)})


def difference(one: Asked, two: Asked) -> PromptDifference | None:
    return first_difference(one, two, "llama-cpp", "llama-cpp")


def expected(prompt: Prompt, what: What) -> PromptDifference:
    return PromptDifference(
        voter=prompt.voter,
        role=prompt.role,
        position=prompt.position,
        what=what,
        first="llama-cpp",
        other="llama-cpp",
    )


@given(SIZES)
def test_equal_prompts_do_not_differ(count: int) -> None:
    assert difference(asked(PROMPTS[:count]), asked(PROMPTS[:count])) is None


@given(SIZES)
def test_first_text_that_differs_is_found(place: int) -> None:
    changed = asked(PROMPTS[:place] + [replace(one, text_sha256="x") for one in PROMPTS[place:]])
    for one, two in ((asked(), changed), (changed, asked())):
        assert difference(one, two) == expected(PROMPTS[place], "text")


@given(SIZES)
def test_first_tokens_that_differ_are_found(place: int) -> None:
    changed = asked(since=place)
    for one, two in ((asked(), changed), (changed, asked())):
        assert difference(one, two) == expected(PROMPTS[place], "tokens")


@given(SIZES)
def test_missing_prompt_is_found_from_both_sides(place: int) -> None:
    fewer = asked(PROMPTS[:place] + PROMPTS[place + 1 :])
    for one, two in ((asked(), fewer), (fewer, asked())):
        assert difference(one, two) == expected(PROMPTS[place], "missing")


def test_text_goes_before_tokens() -> None:
    other = asked([replace(PROMPTS[0], text_sha256="x")], since=0)
    assert difference(asked(PROMPTS[:1]), other) == expected(PROMPTS[0], "text")


def test_specs_differ_in_the_fields_that_differ() -> None:
    found = spec_differences(RunSpec(seed=1, shots=4), RunSpec(seed=2, engine={"threads": 2}))
    assert [(one.field, one.first, one.other) for one in found] == [
        ("seed", 1, 2),
        ("shots", 4, None),
        ("engine", {}, {"threads": 2}),
    ]


def test_same_prompts(sample: Sample) -> None:
    found = compare(sample.kept(run_id="a"), sample.kept(run_id="b"), asked(), asked())
    assert (found.same_text, found.same_tokens, found.first_difference) == (True, True, None)
    assert describe("a", found) == ["b against a: asked the same prompts."]


def test_another_tokenizer(sample: Sample) -> None:
    retokenized = sample.run(prompts=PromptHashes(text_sha256="aa", token_sha256="other"))
    kept = sample.kept(run_id="a"), sample.kept(retokenized, run_id="b")
    found = compare(*kept, asked(), asked(since=0))
    assert (found.same_text, found.same_tokens) == (True, False)
    said = describe("a", found)
    assert "other tokens" in said[0]
    assert said[1] == (
        "They first differ at voter 0, query 0 (llama-cpp): the same text, other tokens."
    )


def test_each_backend_is_compared_with_itself(sample: Sample) -> None:
    mock = sample.mock(prompts=PromptHashes(text_sha256="aa", token_sha256="bytes"))
    both = sample.kept(sample.run(), mock, run_id="a")
    turned = sample.kept(mock, sample.run(), run_id="b")
    found = compare(both, turned, asked(mock="bytes"), asked(mock="bytes"))
    assert (found.same_text, found.same_tokens, found.first_difference) == (True, True, None)
    assert compare(both, sample.kept(mock), asked(mock="bytes"), asked(mock="bytes")).same_tokens


def test_one_backend_that_was_asked_otherwise_is_enough(sample: Sample) -> None:
    changed = sample.mock(prompts=PromptHashes(text_sha256="cc", token_sha256="dd"))
    one, two = sample.kept(sample.run(), sample.mock()), sample.kept(sample.run(), changed)
    found = compare(one, two, asked(), asked(mock="dd"))
    assert (found.same_text, found.same_tokens) == (False, False)
    assert found.first_difference is not None
    assert found.first_difference.first == found.first_difference.other == "mock"


def test_without_a_backend_in_common_all_have_to_agree(sample: Sample) -> None:
    retokenized = sample.mock(prompts=PromptHashes(text_sha256="aa", token_sha256="bytes"))
    one = sample.kept(sample.run())
    assert compare(one, sample.kept(sample.mock()), asked(), asked()).same_tokens
    found = compare(one, sample.kept(retokenized), asked(), asked(mock="bytes"))
    assert (found.same_text, found.same_tokens) == (True, False)


def test_other_prompts_say_what_differs_and_where(sample: Sample) -> None:
    other = sample.run(prompts=PromptHashes(text_sha256="cc", token_sha256="dd"))
    prompts = [*PROMPTS[:4], replace(PROMPTS[4], text_sha256="other"), *PROMPTS[5:]]
    kept = sample.kept(run_id="a"), sample.kept(other, run_id="b", seed=7)
    found = compare(*kept, asked(), asked(prompts))
    assert describe("a", found) == [
        "b against a: asked other prompts: their accuracy and speed are not comparable.",
        "Their specs differ in: seed 0 / 7.",
        "They first differ at voter 0, calibration 1 (llama-cpp): another text.",
    ]


@pytest.mark.parametrize("count", [1, 2])
def test_what_is_printed_as_json_reads_back(sample: Sample, count: int) -> None:
    kept = sample.kept()
    fewer = sample.kept(sample.run(prompts=PromptHashes(text_sha256="cc", token_sha256="dd")))
    one = compare(kept, fewer, asked(), asked(PROMPTS[:-1]))
    assert one.first_difference
    whole = Compared(runs=[kept.summary], against_first=[one] * count, agreements=[])
    assert Compared.model_validate_json(whole.model_dump_json()) == whole
