"""Whether a model is computed right through a cache that prompts share: tried when it is loaded.

`HfContext` gives a model its positions and its masks, and a model may use neither: it counts tokens
in the cache itself, or has a window of its own. Then a prompt's result depends on the other prompts
of the call, without any error. So two prompts that begin alike are evaluated together, as a session
does it, and compared with a forward pass of each.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

import numpy as np
import torch

from backends.api import BackendError, TokenIds
from backends.hf.context import ANOTHER_BACKEND, HfContext
from backends.rules import first_line
from backends.sharing.generation import Logits
from backends.sharing.session import Step

_SHORT = 16  # tokens that the two prompts share
_LONGEST = 1024  # beyond that, it would take seconds; the kinds that turn later are known by name
_ENDS = (3, 5)  # tokens that the one and the other adds
_TOLERANCE = {torch.float32: 0.005, torch.float16: 0.05, torch.bfloat16: 0.1}
"""By how much of its size a row of logits may be off: rounding takes less, a wrong mask more."""


def check_sharing(context: HfContext, name: str, longest: int) -> None:
    """Raises `BackendError`, which calls the model `name`, where results differ.

    Beside a short prompt, one is tried that is longer than the model's window, if there is one.
    """
    turns = [turn for turn in context.turning_points if turn <= _LONGEST]
    # Of several windows the largest: a prompt beyond it is beyond the smaller ones too.
    for shared in dict.fromkeys([_SHORT, *(turn + 1 for turn in turns[-1:])]):
        lengths = range(shared, shared + max(_ENDS) + 1)
        # Two prompts on different sides of `short_length` share nothing (DECISIONS.md, "Longrope").
        if lengths.stop <= longest and context.short_length not in lengths:
            _check(context, name, shared)


def _check(context: HfContext, name: str, shared: int) -> None:
    one, other = _prompts(context.plain_ids or [0], shared)
    context.expect(context.short_length is not None and shared > context.short_length)
    try:
        found = _together(context, one, other, shared)
        expected = [row for ids in (one, other) for row in context.alone(ids)[-2:]]
    except Exception as error:  # whatever a model raises that is not made for it
        raise BackendError(
            f"{name} ({context.description}) cannot be evaluated with a cache that prompts share: "
            f"{first_line(error)}",
            ANOTHER_BACKEND,
        ) from error
    finally:
        context.expect(is_long=False)
    off = sorted(map(_difference, found, expected))
    # one of four may be off by chance: a mixture that chose another expert
    if off[-2] > _TOLERANCE[context.dtype]:
        raise BackendError(
            f"{name} ({context.description}) gives other results for a prompt of {len(one)} tokens "
            f"when prompts share a cache ({100 * off[-2]:.0f} % off)",
            ANOTHER_BACKEND,
        )


def _prompts(tokens: Sequence[int], shared: int) -> tuple[TokenIds, TokenIds]:
    """The two, of tokens from all over the vocabulary."""
    stride = max(1, len(tokens) * 5 // 13)
    spread = iter([tokens[(7 + i * stride) % len(tokens)] for i in range(shared + 16)])
    beginning = list(islice(spread, shared))
    one, other = ([*beginning, *islice(spread, count)] for count in _ENDS)
    return one, other


def _together(context: HfContext, one: TokenIds, other: TokenIds, shared: int) -> list[Logits]:
    """The logits behind the last two tokens of each: the last is evaluated as in decoding."""
    steps = [Step(token, i, (1, 2), False) for i, token in enumerate(one[:shared])]
    for sequence, ids in ((1, one), (2, other)):
        steps += [
            Step(ids[i], i, (sequence,), i == len(ids) - 2) for i in range(shared, len(ids) - 1)
        ]
    last = [Step(ids[-1], len(ids) - 1, (n,), True) for n, ids in ((1, one), (2, other))]
    rows = [row.copy() for run in (steps, last) for _, few in context.evaluate(run) for row in few]
    for sequence in (1, 2):
        context.truncate(sequence, 0)
    first, second, *decoded = rows
    return [first, decoded[0], second, decoded[1]]


def _difference(found: Logits, expected: Logits) -> float:
    """How far a row is from another, as a share of that one's own spread. Rows that are not finite
    are another matter: prompts fail for that."""
    if not (np.isfinite(found).all() and np.isfinite(expected).all()):
        return 0.0
    spread = float(np.linalg.norm(expected - expected.mean()))
    return float(np.linalg.norm(found - expected)) / (spread or 1.0)
