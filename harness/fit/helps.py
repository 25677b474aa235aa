"""What would make fit what does not, or at least more of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil

from harness.fit.gauge import VoterFit
from harness.fit.rows import FitRow, Help
from harness.fit.scale import Scale
from harness.workload.reducers import ReducerSpec, parse_reducer

_ROUNDS = 4  # each halves what a context may be longer than it has to
SHORTER = ("int:100", "int:10")
"""Encodings to try, in this order."""


def helps(
    row: FitRow, each: Sequence[VoterFit], scale: Scale, scale_of: Callable[[str], Scale]
) -> list[Help]:
    """For a row that does not fit, of these voters; `scale_of` gives them in another encoding."""
    found: list[Help | None] = [_fewer_examples(row)]
    if row.encoding is not None:
        worst = max(range(len(each)), key=lambda voter: each[voter].all_tokens)
        found.append(_shorter_encoding(row, worst, scale_of))
        found.append(_fewer_numbers(row, each[worst], scale))
    found.append(_longer_context(row, scale))
    return [one for one in found if one]


def _fewer_examples(row: FitRow) -> Help | None:
    most = row.examples_that_fit
    if not most:
        return None
    tokens = row.prompt_tokens + row.reserve
    # The longest prompt may be of a voter that shows more.
    is_exact = max(row.examples_per_voter) == most
    return Help(flag="shots", value=str(most), examples=most, tokens=tokens, is_exact=is_exact)


def _shorter_encoding(row: FitRow, voter: int, scale_of: Callable[[str], Scale]) -> Help | None:
    """The first with which all fits, or the one with which most does, for one voter: the one that
    needs most tokens now. With another encoding, another may."""
    found: list[Help] = []
    for encoding in SHORTER:
        one = scale_of(encoding).fit(voter, row.max_model_len)
        tokens = one.all_tokens + scale_of(encoding).reserve
        if encoding == row.encoding or tokens >= row.tokens_needed:
            continue
        found.append(
            Help(
                flag="encoding",
                value=encoding,
                examples=one.examples,
                tokens=tokens,
                is_exact=len(row.examples_per_voter) == 1,
            )
        )
        if one.examples == one.wanted and tokens <= row.max_model_len:
            return found[-1]
    best = max(found, key=lambda one: one.examples, default=None)
    return best if best and best.examples > row.examples_that_fit else None


def _fewer_numbers(row: FitRow, voter: VoterFit, scale: Scale) -> Help | None:
    """How many numbers would let all examples in, at the tokens that a number takes now."""
    form = parse_reducer(row.reducer or "none")
    numbers = len(scale.voters[0].queries[0].words)
    a_number_less = scale.tokens_per_number * (voter.wanted + 1)  # the query has it too
    # `plsda` gives as many numbers as there are classes, whatever its K.
    if form.kind == "plsda" or not a_number_less:
        return None
    needed = voter.all_tokens + scale.reserve
    fewer = ceil((needed - row.max_model_len) / a_number_less)
    if not 0 < fewer < numbers:
        return None
    kind = "top" if form.kind == "none" else form.kind
    return Help(
        flag="reducer",
        value=str(ReducerSpec(kind, numbers - fewer)),
        examples=voter.wanted,
        tokens=round(needed - fewer * a_number_less),
        is_exact=False,
    )


def _longer_context(row: FitRow, scale: Scale) -> Help | None:
    """In which all fit, or the model's own, if more fit there; what is named was looked at."""
    if row.encoding is not None:
        needed = length = row.tokens_needed
    else:
        length, needed = _length_for_texts(row, scale)
    if length > row.declared_context:
        return _whole_context(row, scale)
    return Help(
        flag="max_model_len",
        value=str(length),
        examples=row.examples_wanted,
        tokens=needed,
        is_exact=True,
    )


def _whole_context(row: FitRow, scale: Scale) -> Help | None:
    length = row.declared_context
    if length <= row.max_model_len:
        return None
    each = [scale.fit(voter, length) for voter in range(len(scale.voters))]
    short = [one.examples for one in each if one.examples < one.wanted]
    most = min(short, default=row.examples_wanted)
    if most <= row.examples_that_fit:
        return None
    needed = max(one.all_tokens for one in each) + row.reserve
    return Help(
        flag="max_model_len", value=str(length), examples=most, tokens=needed, is_exact=True
    )


def _length_for_texts(row: FitRow, scale: Scale) -> tuple[int, int]:
    """A length in which all fit, and what they need there; beyond the model's, no more is looked
    for.

    A longer context also shows texts that are too long for this one, and then needs more. A text
    that takes more than half of the room is in no prompt, however much room is left.
    """

    def looked_at(length: int) -> tuple[bool, int]:
        each = [scale.fit(voter, length) for voter in range(len(scale.voters))]
        needed = max(one.all_tokens for one in each) + scale.reserve
        return all(one.examples == one.wanted for one in each), needed

    too_short, length = row.max_model_len, max(row.tokens_needed, row.max_model_len + 1)
    fits, needed = looked_at(length)
    while not fits and length <= row.declared_context:
        too_short, length = length, needed if needed > length else 2 * length
        fits, needed = looked_at(length)
    for _ in range(_ROUNDS if fits and length > needed else 0):
        middle = (too_short + length) // 2
        is_enough, then = looked_at(middle)
        if is_enough:
            length, needed = middle, then
        else:
            too_short = middle
    return length, needed
