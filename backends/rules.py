"""Rules that are the same for every engine: what it refuses, where a reply ends, vocabularies, and
how many threads it has."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from backends.api import BackendError, Decoding, Finish, Option, Options, Prompt, Reply

THREADS = Option(
    "threads",
    int,
    "CPU threads.",
    default_text="the CPUs this process may use",
    least=1,
    most=512,  # llama.cpp takes no more (GGML_MAX_N_THREADS)
    short="t",
)
TRUST_REMOTE_CODE = Option(
    "trust_remote_code",
    bool,
    "Run the Python code that comes with a model. It can do whatever you can do.",
    default=False,
)

CONCURRENCY = Option("concurrency", int, "Requests in flight.", default=1, least=1, most=1024)

BEYOND_MODEL = Option(
    "beyond_model",
    bool,
    "Take more tokens than the model was made for, as far as the engine does.",
    default=False,
    has_flag=False,
)

NOT_FINITE = "the engine's log-probabilities are not finite"
"""The reason of a reply that failed for logits or log-probabilities with NaN or infinity."""

MODEL_FILES = ("*.safetensors", "*.json", "*.model", "*.txt", "*.jinja", "*.tiktoken", "*.py")
"""The files of a model's folder that may be read, which are those that are hashed: what only one of
the two lists had could change a model without changing its hash."""

LOGPROB_ROUNDING = 1e-3
"""By so much the logarithm of a probability may be above 0, in nats."""

_WRITING = ("ForCausalLM", "LMHead", "ForConditionalGeneration", "BertGenerationDecoder")
"""Parts of the names of the classes that have a language head."""

_SPACE = "\N{LOWER ONE EIGHTH BLOCK}"  # SentencePiece's mark for a space


def first_line(error: BaseException) -> str:
    """What an error says in short, its kind where it says nothing."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def why_no_text(config: Mapping[str, Any]) -> str:
    """Why a model with this config.json writes no text; empty where it may."""
    kinds = config.get("architectures")
    named = [kind for kind in kinds if isinstance(kind, str)] if isinstance(kinds, list) else []
    own = config.get("auto_map")
    if isinstance(own, dict) and "AutoModelForCausalLM" in own:
        return ""  # its own class may have any name
    if config.get("is_encoder_decoder") is True:
        return "it is an encoder with a decoder"
    if named and not any(part in kind for part in _WRITING for kind in named):
        return f"{named[0]} has no language head"
    return ""


def beyond_model(longest: int, declared_context: int, model: str) -> BackendError:
    """The error of a context that is longer than the model was made for."""
    return BackendError(
        f"a context of {longest} tokens is more than the {declared_context} "
        f"that {model} was made for",
        f"Use {declared_context} or less: by --max-model-len, or the lengths of a bench.",
    )


def check_length(longest: int, declared_context: int, model: str, options: Options) -> None:
    """Raises the error of `beyond_model`, unless `BEYOND_MODEL` allows such a context."""
    if longest > declared_context and not BEYOND_MODEL.of(options):
        raise beyond_model(longest, declared_context, model)


def rope_in_words(kind: object, factor: object = None, original: object = None) -> str:
    """`TokenizerInfo.rope_scaling` of what a model's files state; whatever it is, a short line."""
    if not isinstance(kind, str) or kind in ("", "default", "none"):
        return ""
    parts = [kind if kind.isprintable() else "of unknown kind"]
    if isinstance(factor, int | float):
        parts.append(f"factor {factor:g}")
    if isinstance(original, int):
        parts.append(f"from {original} tokens")
    return ", ".join(parts)[:200]


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


def usable_cpus() -> int:
    """The processors that this process may use: by its affinity, and by its container's quota."""
    # macOS has no affinity.
    has_affinity = hasattr(os, "sched_getaffinity")
    allowed = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
    return max(1, math.ceil(min(allowed, cpu_quota())))


def cpu_quota(root: Path = Path("/")) -> float:
    """The least that the process's cgroups, its own and those around it, let it use at a time, in
    processors; infinite where there is no limit, or none that can be read."""
    return min(_quotas(root), default=math.inf)


def _quotas(root: Path) -> Iterator[float]:
    """One for each cgroup that has a limit. A line of the list is `number:controllers:path`: in
    version 2 there are no controllers, in version 1 they are folders of their own."""
    lines: list[str] = []
    with suppress(OSError):
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    for line in lines:
        controllers, _, path = line.partition(":")[2].partition(":")
        mount = root / "sys/fs/cgroup" / controllers
        # In a container the path may be the host's: what is not there is passed over, and the
        # container's own limit is found at the root.
        for folder in [path, *map(str, Path(path).parents)]:
            with suppress(OSError, ValueError, ZeroDivisionError):
                # `mount / "/docker"` would be `/docker`: pathlib drops what is before an absolute
                # path.
                yield _quota(mount / folder.lstrip("/"), controllers)


def _quota(cgroup: Path, controllers: str) -> float:
    """Raises `OSError` where there is no such file, `ValueError` where it sets no limit."""
    if controllers:
        quota = (cgroup / "cpu.cfs_quota_us").read_text()
        period = (cgroup / "cpu.cfs_period_us").read_text()
    else:
        quota, period = (cgroup / "cpu.max").read_text().split()
    if int(quota) < 0:  # version 1 writes -1 for none, version 2 the word `max`
        raise ValueError(quota)
    return int(quota) / int(period)
