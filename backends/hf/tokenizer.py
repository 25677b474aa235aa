"""A transformers tokenizer in the contract's terms, for the engines that use one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from backends.api import TokenIds
from backends.rules import vocabulary_sha256


class HfTokenizer:
    """Around a tokenizer that transformers has loaded."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer

    @property
    def chat_template(self) -> str | None:
        template = self._tokenizer.chat_template
        return template if isinstance(template, str) else None

    @property
    def bos_id(self) -> int | None:
        """The token that the tokenizer itself puts first, null where it puts none."""
        first = self._tokenizer("a").input_ids[:1]
        return int(first[0]) if first == [self._tokenizer.bos_token_id] else None

    @property
    def bos_text(self) -> str:
        return self._tokenizer.bos_token or ""

    @property
    def eos_id(self) -> int | None:
        end: int | None = self._tokenizer.eos_token_id
        return end

    @property
    def eos_text(self) -> str:
        return self._tokenizer.eos_token or ""

    def vocabulary_sha256(self) -> str:
        texts = {token: text for text, token in self._tokenizer.get_vocab().items()}
        return vocabulary_sha256(texts.get(token, "") for token in range(max(texts) + 1))

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
