"""Rules that are the same for every engine: what it refuses, where a reply ends, vocabularies."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from backends.api import BackendError, Decoding, Finish, Options, Prompt, Reply

NOT_FINITE = "the engine's log-probabilities are not finite"
"""The reason of a reply that failed for logits or log-probabilities with NaN or infinity."""

_SPACE = "\N{LOWER ONE EIGHTH BLOCK}"


def switch(options: Options, name: str) -> bool:
    """An option that is on or off, off where it is not given. Text is neither: `"no"` is true."""
    value = options.get(name, False)
    if not isinstance(value, bool):
        raise BackendError(f"{name} is {value!r}", "Use true or false.")
    return value


def first_line(error: Exception) -> str:
    """What an error says in short, its kind where it says nothing."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def beyond_model(longest: int, declared_context: int, model: str) -> BackendError:
    """The error of a context that is longer than the model was made for."""
    return BackendError(
        f"a context of {longest} tokens is more than the {declared_context} "
        f"that {model} was made for",
        f"Ask for {declared_context} or less: by --max-model-len, or the lengths of a bench.",
    )


def reply_reserve(decoding: Decoding) -> int:
    """Tokens that a reply may need behind its prompt."""
    if decoding.mode == "free":
        return decoding.max_tokens
    return max(map(len, decoding.labels), default=0)


def refuse(
    prompts: Sequence[Prompt], decoding: Decoding, allocated_context: int
) -> tuple[tuple[Reply, ...], list[int]]:
    """Replies to the prompts that cannot be answered, and the indices of the others."""
    longest = allocated_context - reply_reserve(decoding)
    refused: list[Reply] = []
    accepted: list[int] = []
    for index, prompt in enumerate(prompts):
        length = len(prompt.token_ids)
        if 0 < length <= longest:
            accepted.append(index)
        else:
            finish: Finish = "overflow" if length else "empty"
            refused.append(Reply(index, finish, length))
    return tuple(refused), accepted


def before_stop(text: str, stops: Sequence[str]) -> str:
    """The text before the first of the stop strings."""
    ends = [text.find(stop) for stop in stops if stop in text]
    return text[: min(ends)] if ends else text


def vocabulary_sha256(texts: Iterable[str]) -> str:
    """The hash of a vocabulary: its tokens' texts in the order of ids, as UTF-8, joined by NUL.

    An id without a text has an empty one. What engines write in different ways of one vocabulary
    counts as the same: SentencePiece's mark for a space is a space, `[PAD7]` as the text of id 7
    (llama.cpp's converter puts it where a tokenizer has nothing) is none, and so are ids at the
    end that have no text.
    """
    known = ("" if text == f"[PAD{token}]" else text for token, text in enumerate(texts))
    joined = "\0".join(known).rstrip("\0").replace(_SPACE, " ")
    return hashlib.sha256(joined.encode("utf-8", errors="replace")).hexdigest()
