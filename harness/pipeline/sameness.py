"""Whether what an engine computes depends on anything: damaged weights answer each prompt alike.

Logits that are all equal, or the same whatever the prompt, make replies that look like any others
and votes that look like chance. No sound model gives two prompts the very same log-probabilities,
to the last bit.
"""

from __future__ import annotations

import math

from harness.contract import Reply, TokenIds

ENOUGH = 32  # prompts: what is the same in all of them is so in the rest
_TIES = 8  # prompts; in 8 bits of mantissa, two labels are equal once in a while

_CAUSE = "perhaps the weights are damaged, or the model does not generate text"


class Sameness:
    """Of the replies that it was shown, which only count with a log-probability for each label."""

    def __init__(self) -> None:
        self._prompts: set[TokenIds] = set()
        self._vectors: set[tuple[float, ...]] = set()
        self._tells_prompts = False
        self._tells_labels = False

    def see(self, prompt: TokenIds, reply: Reply) -> None:
        """Stores nothing once both faults are excluded."""
        if self.is_excluded or reply.finish in ("overflow", "empty", "failed"):
            return
        known = tuple(one for one in reply.label_logprobs or () if one is not None)
        if len(known) < 2 or len(known) < len(reply.label_logprobs or ()):
            self._tells_prompts = self._tells_labels = True  # there is nothing to see
            return
        self._prompts.add(tuple(prompt))
        self._tells_labels |= len(set(known)) > 1
        if all(map(math.isfinite, known)):
            self._vectors.add(known)
        self._tells_prompts |= len(self._vectors) != 1

    @property
    def is_excluded(self) -> bool:
        return self._tells_prompts and self._tells_labels

    @property
    def is_certain(self) -> bool:
        """There is a reason, and more replies would change nothing."""
        return len(self._prompts) >= ENOUGH and not self.is_excluded

    @property
    def reason(self) -> str | None:
        """Why these replies are none."""
        count = len(self._prompts)
        if not self._tells_labels and count >= _TIES:
            return f"all labels have the same log-probability, in all of {count} prompts: {_CAUSE}"
        if not self._tells_prompts and count > 1:
            return f"the labels' log-probabilities are the same in all of {count} prompts: {_CAUSE}"
        return None
