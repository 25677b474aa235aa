"""Whether runs were asked the same thing, and where they first differ if not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal, Protocol, TypeAlias

from harness.config import RunSpec
from harness.report.answer import Kept
from harness.summary import Agreement, Record, RunSummary, Summary

What: TypeAlias = Literal["text", "tokens", "missing"]
Place: TypeAlias = tuple[int, str, int]
"""A prompt's voter, role and position."""

_DIFFERENCES: dict[What, str] = {
    "text": "another text",
    "tokens": "the same text, other tokens",
    "missing": "only one of them has this prompt",
}


class Prompt(Protocol):
    """What is kept of a prompt."""

    @property
    def voter(self) -> int: ...
    @property
    def role(self) -> str: ...
    @property
    def position(self) -> int: ...
    @property
    def text_sha256(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Asked:
    """What a run asked. `token_sha256` has, for each backend, the hash of each prompt's tokens."""

    prompts: Sequence[Prompt]
    token_sha256: Mapping[str, Sequence[str]]

    def of(self, backend: str) -> dict[Place, tuple[str, str]]:
        """The hashes of text and tokens of each prompt, in the order of the run."""
        pairs = zip(self.prompts, self.token_sha256[backend], strict=True)
        return {(p.voter, p.role, p.position): (p.text_sha256, tokens) for p, tokens in pairs}


class FieldDifference(Record):
    """A field of the spec, in the first run and in the other."""

    field: str
    first: Any
    other: Any


class PromptDifference(Record):
    """The first prompt that differs. Tokens are compared where the text is the same.

    `first` and `other` are the backends that it differs between.
    """

    voter: int
    role: str
    position: int
    what: What
    first: str
    other: str


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
    """What `harness compare --json` prints; `agreements` are of each pair of all backends."""

    runs: list[Summary]
    against_first: list[Comparison]
    agreements: list[Agreement]


def compare(first: Kept, other: Kept, first_asked: Asked, other_asked: Asked) -> Comparison:
    """Tells whether `other` was asked what `first` was."""
    pairs = _comparable(first.summary, other.summary)
    differences = (
        first_difference(first_asked, other_asked, one.backend, two.backend) for one, two in pairs
    )
    return Comparison(
        run_id=other.summary.run_id,
        same_text=all(one.prompts.text_sha256 == two.prompts.text_sha256 for one, two in pairs),
        same_tokens=all(one.prompts.token_sha256 == two.prompts.token_sha256 for one, two in pairs),
        spec=spec_differences(first.spec, other.spec),
        first_difference=next(filter(None, differences), None),
    )


def _comparable(first: Summary, other: Summary) -> list[tuple[RunSummary, RunSummary]]:
    """The backends that both have, or each with each where there is none."""
    ones, others = ({run.backend: run for run in one.runs} for one in (first, other))
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


def first_difference(
    first: Asked, other: Asked, first_backend: str, other_backend: str
) -> PromptDifference | None:
    """Where what two backends were asked parts; null where it is the same."""
    ones, others = first.of(first_backend), other.of(other_backend)
    for place in ones | others:
        if what := _what_differs(ones.get(place), others.get(place)):
            voter, role, position = place
            return PromptDifference(
                voter=voter,
                role=role,
                position=position,
                what=what,
                first=first_backend,
                other=other_backend,
            )
    return None


def describe(first_id: str, comparison: Comparison) -> list[str]:
    """A comparison as plain sentences."""
    said = [f"{comparison.run_id} against {first_id}: {_verdict(comparison)}"]
    if comparison.spec:
        fields = (
            f"{one.field} {_value(one.first)} / {_value(one.other)}" for one in comparison.spec
        )
        said.append(f"Their specs differ in: {', '.join(fields)}.")
    if where := comparison.first_difference:
        backends = " / ".join(dict.fromkeys((where.first, where.other)))
        said.append(
            f"They first differ at voter {where.voter}, {where.role} {where.position} "
            f"({backends}): {_DIFFERENCES[where.what]}."
        )
    return said


def _verdict(comparison: Comparison) -> str:
    if comparison.same_tokens:
        return "asked the same prompts."
    if comparison.same_text:
        return "asked the same text, but tokenizers made other tokens of it."
    return "asked other prompts: their accuracy and speed are not comparable."


def _what_differs(one: tuple[str, str] | None, other: tuple[str, str] | None) -> What | None:
    if one is None or other is None:
        return "missing"
    if one[0] != other[0]:
        return "text"
    return None if one == other else "tokens"


def _value(value: object) -> str:
    return "none" if value is None else str(value)
