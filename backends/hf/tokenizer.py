"""A transformers tokenizer in the contract's terms, for the engines that use one.

transformers is imported late here, and of it only what is needed: all of it, with torch, takes
seconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from backends.api import BackendError, ModelRef, TokenIds, TokenizerInfo
from backends.gguf import read_metadata
from backends.hf.weights import tokenizer_folder_of
from backends.rules import first_line, rope_in_words, vocabulary_sha256


class HfTokenizer:
    """A `backends.api.Tokenizer` around one that transformers has loaded."""

    def __init__(
        self, tokenizer: Any, declared_context: int, rows: int = 0, rope_scaling: str = ""
    ) -> None:
        """`rows`: those of the model's embedding, which may be more than its tokens."""
        self._tokenizer = tokenizer
        texts = {token: text for text, token in tokenizer.get_vocab().items()}
        added = set(tokenizer.added_tokens_decoder)
        self.plain_ids = sorted(texts.keys() - added)  # those that text is made of
        template = tokenizer.chat_template
        if isinstance(template, dict):  # several by name, of which transformers takes this one
            template = template.get("default")
        first = tokenizer("a").input_ids[:1]
        self.info = TokenizerInfo(
            declared_context=declared_context,
            # Ids may have gaps.
            vocabulary_sha256=vocabulary_sha256(
                texts.get(token, "") for token in range(max(texts) + 1)
            ),
            vocabulary_size=max(max(texts) + 1, rows),
            # the token that the tokenizer itself puts first
            bos_id=int(first[0]) if first == [tokenizer.bos_token_id] else None,
            bos_text=tokenizer.bos_token or "",
            eos_text=tokenizer.eos_token or "",
            chat_template=template if isinstance(template, str) else None,
            rope_scaling=rope_scaling,
        )

    @property
    def eos_id(self) -> int | None:
        end: int | None = self._tokenizer.eos_token_id
        return end

    def check_rows(self, rows: int, name: str) -> None:
        """Raises `BackendError`, which calls the model `name`, where text is made of tokens that
        its embedding of so many rows does not have. Models never use some special tokens that their
        tokenizers have: a prompt with one of those fails by itself."""
        if beyond := sum(token >= rows for token in self.plain_ids):
            raise BackendError(
                f"the tokenizer of {name} has {beyond} tokens that the model has no embedding for: "
                f"the model knows {rows}",
                "Check that tokenizer and weights are of the same model.",
            )

    def token_texts(self, token_ids: TokenIds) -> list[str]:
        texts = self._tokenizer.convert_ids_to_tokens(list(token_ids))
        return [text or "" for text in texts]

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Special tokens are parsed, none is added."""
        if not texts:
            return []
        # Half of a surrogate pair is no text to the tokenizer.
        whole = [text.encode("utf-8", errors="replace").decode() for text in texts]
        ids: list[list[int]] = self._tokenizer(whole, add_special_tokens=False).input_ids
        return ids

    def detokenize(self, token_ids: TokenIds) -> str:
        return str(self._tokenizer.decode(list(token_ids), skip_special_tokens=True))

    def close(self) -> None:
        """There is nothing to give back."""


def open_hf_tokenizer(model: ModelRef, trusted: bool) -> HfTokenizer:
    """Reads no weights, and imports no torch where the model is a GGUF file."""
    return load_tokenizer(model, tokenizer_folder_of(model, trusted), trusted)


def load_tokenizer(model: ModelRef, folder: str, trusted: bool) -> HfTokenizer:
    """The tokenizer in a folder that was made or found for the model. Raises `BackendError`."""
    try:
        if model.format == "gguf":
            return HfTokenizer(*_converted(model, folder))
        return HfTokenizer(*_given(folder, trusted))
    except BackendError:
        raise
    except Exception as error:  # whatever a damaged file makes transformers raise
        raise BackendError(
            f"transformers could not read the tokenizer of {model.name}: "
            f"{first_line(error).replace(folder, model.name)}",
            "Give a folder with config.json, safetensors and a tokenizer, or a model that is in "
            "the hub's cache on this machine.",
        ) from error


def _converted(model: ModelRef, folder: str) -> tuple[Any, int, int, str]:
    """The context is the one in the file's head, as llama.cpp has it."""
    from transformers import PreTrainedTokenizerFast

    plain: Any = PreTrainedTokenizerFast
    source = Path(model.location)
    metadata = read_metadata(source, model.name)
    architecture = metadata.get("general.architecture")
    length = metadata.get(f"{architecture}.context_length")
    if not isinstance(length, int):
        raise ValueError("the file does not say how long a context its model was made for")
    keys = ("type", "factor", "original_context_length")
    scaling = [metadata.get(f"{architecture}.rope.scaling.{key}") for key in keys]
    return plain.from_pretrained(folder), length, 0, rope_in_words(*scaling)


def _given(folder: str, trusted: bool) -> tuple[Any, int, int, str]:
    from transformers import AutoConfig, AutoTokenizer

    config = AutoConfig.from_pretrained(folder, trust_remote_code=trusted)
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=trusted)
    text_config = config.get_text_config()
    length = getattr(text_config, "max_position_embeddings", None)
    if type(length) is not int:
        raise ValueError("config.json does not say how long a context the model was made for")
    rows = getattr(text_config, "vocab_size", None)
    # Of models with several kinds of layers, each kind may have its own.
    rope = getattr(text_config, "rope_parameters", None)
    scaling = rope_scaling_of(rope if isinstance(rope, dict) else {})
    return tokenizer, length, rows if type(rows) is int else 0, scaling


def rope_scaling_of(parameters: Mapping[str, Any]) -> str:
    """Of transformers' `rope_parameters`."""
    own = [parameters, *(value for value in parameters.values() if isinstance(value, dict))]
    said = [
        rope_in_words(
            one.get("rope_type"), one.get("factor"), one.get("original_max_position_embeddings")
        )
        for one in own
    ]
    return "; ".join(dict.fromkeys(filter(None, said)))
