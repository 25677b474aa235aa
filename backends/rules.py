"""Rules that are the same for every engine: which prompts it refuses, where a reply ends."""

from __future__ import annotations

from collections.abc import Sequence

from backends.api import BackendError, Decoding, Finish, Reply, TokenIds


def beyond_model(longest: int, declared_context: int, model: str) -> BackendError:
    """The error of a context that is longer than the model was made for."""
    return BackendError(
        f"a context of {longest} tokens is more than the {declared_context} "
        f"that {model} was made for",
        f"Ask for --max-model-len {declared_context} or less.",
    )


def reply_reserve(decoding: Decoding) -> int:
    """Tokens that a reply may need behind its prompt."""
    if decoding.mode == "free":
        return decoding.max_tokens
    return max(map(len, decoding.labels), default=0)


def refuse(
    prompts: Sequence[TokenIds], decoding: Decoding, allocated_context: int
) -> tuple[tuple[Reply, ...], list[int]]:
    """Replies to the prompts that cannot be answered, and the indices of the others."""
    longest = allocated_context - reply_reserve(decoding)
    refused: list[Reply] = []
    accepted: list[int] = []
    for index, prompt in enumerate(prompts):
        if 0 < len(prompt) <= longest:
            accepted.append(index)
        else:
            finish: Finish = "overflow" if prompt else "empty"
            refused.append(Reply(index, finish, len(prompt)))
    return tuple(refused), accepted


def before_stop(text: str, stops: Sequence[str]) -> str:
    """The text before the first of the stop strings."""
    ends = [text.find(stop) for stop in stops if stop in text]
    return text[: min(ends)] if ends else text
