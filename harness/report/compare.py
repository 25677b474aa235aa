"""Whether runs were asked the same thing, and where they first differ if not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Protocol

from harness.config import RunSpec
from harness.report.answer import Kept
from harness.summary import Record, Summary

_NO_QUESTION = ("backend", "engine", "backends", "models", "timeout_seconds")
"""Fields of a spec that say who is asked, not what."""


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
    what: Literal["text", "tokens", "missing"]


class Comparison(Record):
    """A run against the first one. `same_tokens` holds over all backends of both."""

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
    runs = [*first.summary.runs, *other.summary.runs]
    return Comparison(
        run_id=other.summary.run_id,
        same_text=len({run.prompts.text_sha256 for run in runs}) == 1,
        same_tokens=len({run.prompts.token_sha256 for run in runs}) == 1,
        spec=spec_differences(first.spec, other.spec),
        first_difference=first_difference(first_asked, other_asked),
    )


def spec_differences(first: RunSpec, other: RunSpec) -> list[FieldDifference]:
    """The fields in which two specs ask something else, in the order of the spec."""
    ones, others = first.model_dump(mode="json"), other.model_dump(mode="json")
    return [
        FieldDifference(field=field, first=ones[field], other=others[field])
        for field in ones
        if field not in _NO_QUESTION and ones[field] != others[field]
    ]


def first_difference(first: Sequence[Asked], other: Sequence[Asked]) -> PromptDifference | None:
    """Where two lists of prompts part; null where they are the same."""
    for one, another in zip(first, other, strict=False):
        if _place(one) != _place(another):
            return _difference(min(one, another, key=_place), "missing")
        if one.text_sha256 != another.text_sha256:
            return _difference(one, "text")
        if one.token_sha256 != another.token_sha256:
            return _difference(one, "tokens")
    longer = max(first, other, key=len)[min(len(first), len(other)) :]
    return _difference(longer[0], "missing") if longer else None


def describe(first_id: str, comparison: Comparison) -> list[str]:
    """A comparison as plain sentences."""
    said = [f"{comparison.run_id} against {first_id}: {_verdict(comparison)}"]
    if comparison.spec:
        fields = (f"{one.field} {_value(one.first)} / {_value(one.other)}" for one in comparison.spec)
        said.append(f"Their specs differ in: {', '.join(fields)}.")
    if where := comparison.first_difference:
        said.append(
            f"They first differ at voter {where.voter}, {where.role} {where.position}: "
            f"{_DIFFERENCES[where.what]}."
        )
    return said


_DIFFERENCES = {
    "text": "another text",
    "tokens": "the same text, other tokens",
    "missing": "only one of them has this prompt",
}


def _verdict(comparison: Comparison) -> str:
    if comparison.same_tokens:
        return "asked the same prompts."
    if comparison.same_text:
        return "asked the same text, but tokenizers made other tokens of it."
    return "asked other prompts: their accuracy and speed are not comparable."


def _place(prompt: Asked) -> tuple[int, str, int]:
    return prompt.voter, prompt.role, prompt.position


def _difference(
    prompt: Asked, what: Literal["text", "tokens", "missing"]
) -> PromptDifference:
    return PromptDifference(
        voter=prompt.voter, role=prompt.role, position=prompt.position, what=what
    )


def _value(value: object) -> str:
    return "none" if value is None else str(value)
