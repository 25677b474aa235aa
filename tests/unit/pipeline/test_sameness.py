"""Replies that do not depend on their prompts are told from those that do."""

from __future__ import annotations

import math

import pytest

from backends.api import Reply
from harness.pipeline.sameness import ENOUGH, Sameness

Logprobs = tuple[float | None, ...] | None


def seen(*vectors: Logprobs) -> Sameness:
    """One prompt for each."""
    sameness = Sameness()
    for number, vector in enumerate(vectors):
        sameness.see([7, number], Reply(number, "scored", 2, label_logprobs=vector))
    return sameness


@pytest.mark.parametrize(
    "vectors",
    [
        [(-1.0, -2.0)] * 2,
        [(-1.0, -2.0)] * 8,
        [(-1.0, -1.0)] * 2,
        [(-1.0, -1.0), (-2.0, -2.0)] * 4,
        [(-math.inf, -math.inf)] * 8,
    ],
)
def test_what_depends_on_nothing_has_a_reason(vectors: list[Logprobs]) -> None:
    sameness = seen(*vectors)
    assert sameness.reason
    assert not sameness.is_excluded
    assert not sameness.is_certain


@pytest.mark.parametrize(
    "vectors",
    [
        [(-1.0, -2.0)],
        [(-1.0, -2.0), (-2.0, -1.0)],
        [(-1.0, -1.0), (-2.0, -2.0)],  # too few for two labels that are equal
        [(-1.0, -2.0)] * 8 + [(-1.0, math.nextafter(-2.0, 0.0))],
        [None] * 8,
        [(-1.0, None)] * 8,
        [(-1.0,)] * 8,
        [()] * 8,
        [],
    ],
)
def test_what_may_be_sound_has_none(vectors: list[Logprobs]) -> None:
    assert seen(*vectors).reason is None


def test_one_prompt_in_many_attempts_is_one_prompt() -> None:
    sameness = Sameness()
    for number in range(2 * ENOUGH):
        sameness.see([7], Reply(number, "scored", 1, label_logprobs=(-1.0, -2.0)))
    assert sameness.reason is None


def test_what_failed_or_was_refused_is_not_looked_at() -> None:
    sameness = Sameness()
    for number, finish in enumerate(("failed", "overflow", "empty")):
        sameness.see([number], Reply(number, finish, 1))  # type: ignore[arg-type]
    assert not sameness.is_excluded


def test_in_many_prompts_it_is_certain() -> None:
    assert not seen(*[(-1.0, -2.0)] * (ENOUGH - 1)).is_certain
    assert seen(*[(-1.0, -2.0)] * ENOUGH).is_certain
    assert not seen(*[(-1.0, -2.0)] * ENOUGH, (-2.0, -1.0)).is_certain
