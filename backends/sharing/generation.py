"""What engines that hand out logits share: log-probabilities, picking a token, ending a reply.

Needs numpy, which every such engine has; so an engine imports this module late.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from backends.api import Decoding, Finish, Prompt, TokenIds
from backends.rules import before_stop

Logits: TypeAlias = NDArray[np.floating[Any]]
Detokenize: TypeAlias = Callable[[TokenIds], str]


def are_finite(logits: Logits) -> bool:
    """Whether probabilities can be made of them: single ones may be minus infinity, which is a
    token that cannot be."""
    return bool(np.isfinite(logits.max()))


def log_softmax(logits: Logits) -> NDArray[np.float64]:
    """Natural log-probabilities over the last axis, in double precision."""
    # The largest becomes 0, so that `exp` cannot overflow.
    shifted = np.asarray(logits, np.float64) - logits.max(axis=-1, keepdims=True)
    normalised: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return normalised


def prompt_entropy(seed: int, token_ids: TokenIds, attempt: int) -> int:
    """256 bits for the random numbers of one attempt at one prompt.

    The first attempt is not written into what is hashed: it draws what a single one draws.
    """
    # With commas: the tokens 1, 23 and the tokens 12, 3 are different prompts.
    text = f"{seed}:{','.join(map(str, token_ids))}" + (f":{attempt}" if attempt else "")
    return int.from_bytes(hashlib.sha256(text.encode()).digest())


class Picker:
    """Picks tokens for one prompt: greedy, or from a stream of random numbers of its own.

    The stream depends on the seed, the prompt's ids and its attempt alone, so a reply does not
    depend on what else was in the call, and a resumed run gives what an uninterrupted one gives.
    """

    def __init__(self, decoding: Decoding, prompt: Prompt) -> None:
        self._temperature = decoding.temperature
        self._random: np.random.Generator | None = None
        if decoding.temperature > 0:
            entropy = prompt_entropy(decoding.seed, prompt.token_ids, prompt.attempt)
            self._random = np.random.default_rng(entropy)

    def pick(self, logits: Logits) -> int:
        """An index into `logits` (any unnormalised log-probabilities)."""
        if self._random is None:
            return int(logits.argmax())
        # The maximum of logits with Gumbel noise on them is a draw from their softmax.
        noise = self._random.gumbel(size=logits.shape)
        return int((logits / self._temperature + noise).argmax())


def choose_label(
    labels: Sequence[TokenIds], token_logprobs: Sequence[Sequence[float]], picker: Picker
) -> int:
    """The label that a model writes if it may write nothing else: token by token, best or drawn.

    `token_logprobs[i][t]` is the log-probability of token t of label i behind its tokens before.
    """
    left = list(range(len(labels)))
    depth = 0
    while len(left) > 1:
        options = {labels[i][depth]: token_logprobs[i][depth] for i in left}
        picked = list(options)[picker.pick(np.array(list(options.values())))]
        left = [i for i in left if labels[i][depth] == picked]
        depth += 1
    return left[0]


@dataclass(slots=True)
class Draft:
    """A reply while it grows. `finish` is `None` until it has ended.

    `text` is what was generated before the first stop string; where there is none to look for, it
    is made when the reply has ended. Texts are made of all tokens again: characters may spread over
    tokens, and that costs.
    """

    decoding: Decoding
    token_ids: list[int] = field(default_factory=list)
    text: str = ""
    finish: Finish | None = None

    def add(self, token: int, is_end: bool, detokenize: Detokenize) -> None:
        """Takes the next token; an end token is one of the ids and not in the text."""
        self.token_ids.append(token)
        ends = is_end and not self.decoding.ignore_end
        if ends:
            self.finish = "stop"
        elif len(self.token_ids) >= self.decoding.max_tokens:
            self.finish = "length"
        if self.finish or self.decoding.stop:
            whole = detokenize(self.token_ids[:-1] if ends else self.token_ids)
            self.text = before_stop(whole, self.decoding.stop)
            # After the length: a stop string within the last token that is allowed is a "stop".
            if len(self.text) < len(whole):
                self.finish = "stop"

    def take_label(self, label: TokenIds, detokenize: Detokenize) -> None:
        """Is this label, and ends."""
        self.token_ids = list(label)
        self.text = detokenize(label)
        self.finish = "label"
