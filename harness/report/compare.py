"""Whether runs were asked the same thing, and where they first differ if not."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any, Literal, Protocol, TypeAlias

from harness.config import RunSpec
from harness.report.answer import Kept
from harness.summary import PromptHashes, Record, Summary

What: TypeAlias = Literal["text", "tokens", "missing"]


_DIFFERENCES: dict[What, str] = {
    "text": "another text",
    "tokens": "the same text, other tokens",
    "missing": "only one of them has this prompt",
}


class Asked(Protocol):
    """What is kept of a prompt."""

    @property
    def voter(self) -> int: ...
    @property
    def role(self) -> str: ...
    @property
    def position(self) -> int: ...
    @property
    def text_sha256(self) -> str: ...
    @property
    def token_sha256(self) -> str: ...


class FieldDifference(Record):
    """A field of the spec, in the first run and in the other."""

    field: str
    first: Any
    other: Any


class PromptDifference(Record):
    """The first prompt that differs. Tokens are compared where the text is the same."""

    voter: int
    role: str
    position: int
    what: What


class Comparison(Record):
    """A run against the first one.

    `same_text` and `same_tokens` hold for each backend that both have; where they share none, over
    all backends of both.
    """

    run_id: str
    same_text: bool
    same_tokens: bool
    spec: list[FieldDifference]
    first_difference: PromptDifference | None


class Compared(Record):
    """What `harness compare --json` prints."""

    runs: list[Summary]
    against_first: list[Comparison]


def compare(
    first: Kept, other: Kept, first_asked: Sequence[Asked], other_asked: Sequence[Asked]
) -> Comparison:
    """Tells whether `other` was asked what `first` was; prompts are in the order of the runs."""
    pairs = _comparable(first.summary, other.summary)
    same_tokens = all(one.token_sha256 == two.token_sha256 for one, two in pairs)
    return Comparison(
        run_id=other.summary.run_id,
        same_text=all(one.text_sha256 == two.text_sha256 for one, two in pairs),
        same_tokens=same_tokens,
        spec=spec_differences(first.spec, other.spec),
        # the tokens kept of a prompt are those of its run's first backend, not of one in common
        first_difference=None if same_tokens else first_difference(first_asked, other_asked),
    )


def _comparable(first: Summary, other: Summary) -> list[tuple[PromptHashes, PromptHashes]]:
    """The hashes of the backends that both have, or of each with each where there is none."""
    ones, others = ({run.backend: run.prompts for run in one.runs} for one in (first, other))
    common = [(ones[name], others[name]) for name in ones if name in others]
    return common or list(product(ones.values(), others.values()))


def spec_differences(first: RunSpec, other: RunSpec) -> list[FieldDifference]:
    """The fields in which two specs differ, in the order of the spec."""
    ones, others = first.model_dump(mode="json"), other.model_dump(mode="json")
    return [
        FieldDifference(field=field, first=ones[field], other=others[field])
        for field in ones
        if ones[field] != others[field]
    ]


def first_difference(first: Sequence[Asked], other: Sequence[Asked]) -> PromptDifference | None:
    """Where two lists of prompts part; null where they are the same."""
    others = {_place(prompt): prompt for prompt in other}
    for prompt in first:
        if what := _what_differs(prompt, others.pop(_place(prompt), None)):
            return _difference(prompt, what)
    return _difference(next(iter(others.values())), "missing") if others else None


def describe(first_id: str, comparison: Comparison) -> list[str]:
    """A comparison as plain sentences."""
    said = [f"{comparison.run_id} against {first_id}: {_verdict(comparison)}"]
    if comparison.spec:
        fields = (
            f"{one.field} {_value(one.first)} / {_value(one.other)}" for one in comparison.spec
        )
        said.append(f"Their specs differ in: {', '.join(fields)}.")
    if where := comparison.first_difference:
        said.append(
            f"They first differ at voter {where.voter}, {where.role} {where.position}: "
            f"{_DIFFERENCES[where.what]}."
        )
    return said


def _verdict(comparison: Comparison) -> str:
    if comparison.same_tokens:
        return "asked the same prompts."
    if comparison.same_text:
        return "asked the same text, but tokenizers made other tokens of it."
    return "asked other prompts: their accuracy and speed are not comparable."


def _place(prompt: Asked) -> tuple[int, str, int]:
    return prompt.voter, prompt.role, prompt.position


def _what_differs(prompt: Asked, other: Asked | None) -> What | None:
    if other is None:
        return "missing"
    if prompt.text_sha256 != other.text_sha256:
        return "text"
    return None if prompt.token_sha256 == other.token_sha256 else "tokens"


def _difference(prompt: Asked, what: What) -> PromptDifference:
    return PromptDifference(
        voter=prompt.voter, role=prompt.role, position=prompt.position, what=what
    )


def _value(value: object) -> str:
    return "none" if value is None else str(value)
