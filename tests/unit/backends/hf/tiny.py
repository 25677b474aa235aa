"""Tiny models with random weights, and what a forward pass of one alone says."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from backends.api import Batch, Decoding, ModelRef, OptionValue, Prompt, Reply
from backends.hf import backend as hf
from backends.sharing.session import SharedCacheSession

WORDS = 48
SIZES: dict[str, Any] = {
    "vocab_size": WORDS,
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 160,
    "initializer_range": 0.3,  # sure enough of itself that greedy replies differ
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
}


def save(model: Any, folder: Path, words: int = WORDS) -> Path:
    """The model and a tokenizer of so many words."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    vocabulary = Tokenizer(WordLevel({f"w{i}": i for i in range(words)}, unk_token="w0"))
    model.save_pretrained(folder)
    plain: Any = PreTrainedTokenizerFast
    plain(tokenizer_object=vocabulary, unk_token="w0").save_pretrained(folder)
    return folder


def random_model(config: Any) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    plain: Any = AutoModelForCausalLM
    return plain.from_config(config).eval()


def llama(**sizes: Any) -> Any:
    from transformers import LlamaConfig

    return random_model(LlamaConfig(**{**SIZES, "num_key_value_heads": 2, **sizes}))


def opened(folder: Path, **options: OptionValue) -> SharedCacheSession:
    usual: dict[str, OptionValue] = {"dtype": "float32", "device": "cpu", "threads": 1}
    given = {"max_model_len": 128, **usual, **options}
    return hf.open_session(ModelRef("tiny", "hf", str(folder)), given)


def ask(
    session: SharedCacheSession, prompts: Sequence[Sequence[int]], decoding: Decoding
) -> list[Reply]:
    events = session.generate([Prompt(ids) for ids in prompts], decoding)
    batches = [event for event in events if isinstance(event, Batch)]
    replies = {reply.prompt: reply for batch in batches for reply in batch.replies}
    return [replies[i] for i in range(len(prompts))]


def logprobs(model: Any, ids: Sequence[int]) -> Any:
    """(tokens, words): of what follows each token, by a forward pass over all of them."""
    import torch

    with torch.inference_mode():
        return model(torch.tensor([list(ids)])).logits[0].log_softmax(-1)
