"""The tokenizer of a server entry: that of the local files of --model, proven against the server
where it can tokenize; the server's own where there are no files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from backends.api import NO_FILES, BackendError, ModelRef, TokenIds, TokenizerInfo
from backends.server.client import Apart, Client
from backends.server.found import Found

_NAME_IT = (
    "Name what it serves by --model: a GGUF file, or a folder with a tokenizer. Where the server "
    "can tokenize, any other name will do, and its own tokenizer counts."
)
_PROOF = (
    "Numbers: 0 7 42 99 100 1234567890 3.14159 -1e-05",
    "  two spaces,\ttab\n\nand lines\r\n",
    "Na\u00efve fa\u00e7ade \u2014 \u6771\u4eac \U0001f642 \u041f\u0440\u0438\u0432\u0435\u0442",
    "REAL FAKE positive negative Label: Answer=",
)
"""Texts that few different vocabularies tokenize alike."""


class LocalTokenizer(Protocol):
    """A `backends.api.Tokenizer` that also writes texts of ids."""

    @property
    def info(self) -> TokenizerInfo: ...

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]: ...

    def token_texts(self, token_ids: TokenIds) -> list[str]: ...

    def detokenize(self, token_ids: TokenIds) -> str: ...

    def close(self) -> None: ...


def open_local(model: ModelRef) -> LocalTokenizer:
    """Of files on this machine; no weights are loaded. Raises `BackendError`."""
    if model.format == "gguf":
        try:
            from backends.llama_cpp.tokenizer import open_vocabulary
        except ImportError:
            from backends.hf.tokenizer import open_hf_tokenizer

            return open_hf_tokenizer(model, trusted=False)
        return open_vocabulary(model)
    from backends.hf.tokenizer import open_hf_tokenizer

    return open_hf_tokenizer(model, trusted=False)


def open_tokenizer(apart: Apart, found: Found, model: ModelRef) -> LocalTokenizer:
    """Proven where the server can tokenize. Takes over `apart`. Raises `BackendError`."""
    if model.format == NO_FILES:
        return ServersTokenizer(apart, found, model.name)
    try:
        local = open_local(model)
    except BackendError:
        # A hub name is what servers call their models, whether its files are here or not.
        is_on_hub = model.format == "hf" and not Path(model.location).is_dir()
        if is_on_hub and found.flavour.TAKES_IDS:
            return ServersTokenizer(apart, found, model.name)
        raise
    apart.run(_prove(apart.client, found, local, model))
    apart.close()
    return local


async def _prove(client: Client, found: Found, local: LocalTokenizer, model: ModelRef) -> None:
    texts = [*_PROOF, *filter(None, (local.info.bos_text, local.info.eos_text))]
    for text, own in zip(texts, local.tokenize(texts), strict=True):
        theirs = await found.flavour.tokenize(client, found.model, text)
        if theirs is None:
            return
        # Some servers put BOS first whatever is wanted; that is looked at with a prompt.
        if theirs not in (own, [local.info.bos_id, *own]):
            raise BackendError(
                f"{client.host} serves {found.model}, whose tokens are not those of {model.name}: "
                f"{text!r:.40} is {_written(theirs)} there and {_written(own)} here",
                _NAME_IT,
            )


def _written(token_ids: Sequence[int]) -> str:
    return f"[{', '.join(map(str, token_ids[:6]))}{', ..' if len(token_ids) > 6 else ''}]"


class ServersTokenizer:
    """The server's own. Its vocabulary is not known as a whole, so nothing is taken to be of the
    same one; texts of tokens are not known at all."""

    def __init__(self, apart: Apart, found: Found, name: str) -> None:
        self._apart, self._found = apart, found
        self._texts: dict[tuple[int, ...], str] = {}
        if not found.flavour.TAKES_IDS:
            raise BackendError(
                f"there is no model {name!r} here, and {found.flavour.TITLE} counts no tokens of a "
                "text without answering it",
                _NAME_IT,
            )
        if found.context is None:
            raise BackendError(
                f"{apart.client.host} does not say how long a context {found.model} has", _NAME_IT
            )
        said = json.dumps([found.flavour.NAME, found.model, self.tokenize(_PROOF)])
        first, plain = self._one("a", special=True), self._one("a")
        self.info = TokenizerInfo(
            declared_context=found.context,
            vocabulary_sha256=hashlib.sha256(said.encode()).hexdigest(),
            bos_id=first[0] if first[1:] == plain else None,
            chat_template=found.facts.chat_template,
        )

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        return [self._one(text) for text in texts]

    def _one(self, text: str, special: bool = False) -> list[int]:
        found = self._found
        client = self._apart.client
        theirs = self._apart.run(found.flavour.tokenize(client, found.model, text, special))
        if theirs is None:
            raise BackendError(f"{client.host} did not tokenize a text", _NAME_IT)
        return theirs

    def token_texts(self, token_ids: TokenIds) -> list[str]:
        return [""] * len(token_ids)

    def detokenize(self, token_ids: TokenIds) -> str:
        """Wanted once: the same few labels are wanted behind every prompt."""
        key, found = tuple(token_ids), self._found
        if key not in self._texts:
            client = self._apart.client
            text = self._apart.run(found.flavour.detokenize(client, found.model, key))
            self._texts[key] = text or ""
        return self._texts[key]

    def close(self) -> None:
        self._apart.close()
