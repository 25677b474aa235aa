"""Transformers' backend against a plain forward pass, on a tiny model with sliding windows."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from backends.api import (
    Decoding,
    ModelRef,
    Options,
    OptionValue,
    Reply,
)
from backends.hf import backend as hf
from backends.sharing.prefix_tree import unique_tokens
from backends.sharing.session import SharedCacheSession
from tests.unit.backends.hf.tiny import ask as replies_to
from tests.unit.backends.hf.tiny import logprobs

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("transformers") is None, reason="pip install 'llm-backend-harness[hf]'"
)

WINDOW = 8
WORDS = 48
SIZES: dict[str, Any] = {
    "vocab_size": WORDS,
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "max_position_embeddings": 128,
    "sliding_window": WINDOW,
    "initializer_range": 0.3,  # sure enough of itself that greedy replies differ
    "bos_token_id": None,
    "eos_token_id": None,
}
LABELS = ((3, 4, 5), (6,))
SHARED = tuple(range(7, 37))  # nearly four windows
PROMPTS = [
    [*SHARED, 1, 2],
    [*SHARED, 1, 2, 8, 9, 10, 11, 12, 13, 14, 15, 16],
    [*SHARED[:20], 40, 41, 42],
    [*SHARED[:5], 43],
    [44, 45],
]


def gemma3() -> Any:
    """Most layers see a window, one sees all."""
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    kinds = ["sliding_attention", "full_attention", "sliding_attention"]
    return Gemma3ForCausalLM(Gemma3TextConfig(**SIZES, pad_token_id=0, layer_types=kinds))


def mistral() -> Any:
    """All layers see a window, and nothing says so layer by layer."""
    from transformers import MistralConfig, MistralForCausalLM

    return MistralForCausalLM(MistralConfig(**SIZES))


@pytest.fixture(scope="module", params=[gemma3, mistral], ids=lambda make: make.__name__)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model and its tokenizer."""
    import torch
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    torch.manual_seed(0)
    words = Tokenizer(WordLevel({f"w{i}": i for i in range(WORDS)}, unk_token="w0"))
    made = tmp_path_factory.mktemp("tiny")
    request.param().save_pretrained(made)
    plain: Any = PreTrainedTokenizerFast
    plain(tokenizer_object=words, unk_token="w0").save_pretrained(made)
    return made


@pytest.fixture(scope="module")
def session(folder: Path) -> Iterator[SharedCacheSession]:
    options: dict[str, OptionValue] = {
        "max_model_len": 96,
        "dtype": "float32",
        "device": "cpu",
        "threads": 1,
    }
    with closing(hf.open_session(ModelRef("tiny", "hf", str(folder)), options)) as opened:
        yield opened


@pytest.fixture(scope="module")
def model(folder: Path) -> Any:
    from transformers import AutoModelForCausalLM

    loaded: Any = AutoModelForCausalLM.from_pretrained(folder, dtype="float32")
    return loaded.eval()


def ask(session: SharedCacheSession, prompts: Sequence[Sequence[int]]) -> list[Reply]:
    return replies_to(session, prompts, Decoding("free", LABELS, max_tokens=WINDOW + 4))


def label_logprob(model: Any, prompt: Sequence[int], label: Sequence[int]) -> float:
    found = logprobs(model, [*prompt, *label])
    places = range(len(prompt) - 1, len(prompt) + len(label) - 1)
    return sum(float(found[place, token]) for place, token in zip(places, label, strict=True))


def check(model: Any, prompt: Sequence[int], reply: Reply) -> None:
    expected = [label_logprob(model, prompt, label) for label in LABELS]
    assert reply.label_logprobs == pytest.approx(expected, abs=1e-4)
    whole = [*prompt, *reply.token_ids]
    greedy = logprobs(model, whole)[len(prompt) - 1 : -1].argmax(-1)
    assert list(reply.token_ids) == greedy.tolist()


def test_prompts_given_together_are_as_a_forward_pass_of_each(
    session: SharedCacheSession, model: Any
) -> None:
    for prompt, reply in zip(PROMPTS, ask(session, PROMPTS), strict=True):
        check(model, prompt, reply)


def test_prompts_given_one_after_the_other_are_too(session: SharedCacheSession, model: Any) -> None:
    for prompt in PROMPTS:
        check(model, prompt, ask(session, [prompt])[0])


def test_every_unique_token_is_computed_once(session: SharedCacheSession) -> None:
    ask(session, [[46, 47]])
    replies = ask(session, PROMPTS)
    computed = sum(reply.prompt_tokens - (reply.cached_tokens or 0) for reply in replies)
    assert computed == unique_tokens(PROMPTS)


def test_the_window_matters(model: Any) -> None:
    """Else this would not be a test of it: a model without windows says something else."""
    config = model.config
    assert max(map(len, PROMPTS)) > 2 * WINDOW
    windowed = logprobs(model, PROMPTS[0])[-1]
    config.sliding_window, before = 96, config.sliding_window
    try:
        assert float((logprobs(model, PROMPTS[0])[-1] - windowed).abs().max()) > 0.01
    finally:
        config.sliding_window = before


def test_processors_are_counted_only_where_threads_are_not_given(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from backends.hf import context

    monkeypatch.delattr(os, "sched_getaffinity", raising=False)  # as on macOS
    monkeypatch.setattr(context, "usable_cpus", lambda: 2)
    own: Options
    for own, threads in (({"threads": 1}, 1), ({}, 2)):
        given: dict[str, OptionValue] = {"max_model_len": 96, "device": "cpu", **own}
        with closing(hf.open_session(ModelRef("tiny", "hf", str(folder)), given)) as opened:
            assert opened.info.threads == threads
