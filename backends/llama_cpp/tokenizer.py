"""A GGUF file, loaded whole or only as far as its vocabulary, and the tokens of its model."""

from __future__ import annotations

import ctypes
import os
import re
import sys
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import llama_cpp as lib

from backends.api import Allocated, BackendError, ModelRef, TokenIds, TokenizerInfo
from backends.gguf import check_file, check_model, parts_of
from backends.rules import rope_in_words, vocabulary_sha256

# The numbering in `llama_cpp._logger` is an older one, in which 2 is a warning.
_LOG_WARN, _LOG_ERROR = 3, 4  # of ggml_log_level; the Python package does not name them
_WHERE = re.compile(r"^\w+: (error loading model: )?(\w+: )?")  # functions of llama.cpp's own

# Such as `llama_kv_cache:        CPU KV buffer size =    73.12 MiB`, one for each device. Recurrent
# states (RS) are a part of what is held of tokens; the output buffer one of what is computed with.
_BUFFER = re.compile(r"\w+:\s+\S+\s+(KV|RS|compute|output) buffer size =\s*([\d.]+) MiB")
_MIB = 2**20
_NUMBER = re.compile(r"\d{1,9}(\.\d{1,9})?")

_recent_log: deque[str] = deque(maxlen=20)
_buffers: dict[str, float] = {}


def _store_log(level: int, text: bytes, _user_data: ctypes.c_void_p) -> None:
    if found := _BUFFER.match(text.decode("utf-8", errors="replace")):
        _buffers[found[1]] = _buffers.get(found[1], 0.0) + float(found[2])
    if _LOG_WARN <= level <= _LOG_ERROR:
        _recent_log.append(text.decode("utf-8", errors="replace").strip())


# The module holds the callback: without a reference llama.cpp would call into freed memory.
_LOG_CALLBACK = lib.llama_log_callback(_store_log)


def load_model(model: ModelRef, params: Any) -> Any:
    """llama.cpp's own handle of a model. Raises `BackendError`."""
    check_file(Path(model.location), model.name)
    parts_of(Path(model.location))
    lib.llama_log_set(_LOG_CALLBACK, ctypes.c_void_p(0))
    lib.llama_backend_init()
    _recent_log.clear()
    _buffers.clear()
    loaded = lib.llama_model_load_from_file(os.fsencode(model.location), params)
    if not loaded:
        # the first complaint is the cause, those behind it say what became of that
        reason = _WHERE.sub("", next(iter(_recent_log), "")).replace(model.location, model.name)
        # With the callback set, llama.cpp itself prints nothing: the engine's log gets the lines
        # here.
        sys.stderr.write("\n".join([*_recent_log, ""]))
        raise BackendError(
            f"llama.cpp could not load {model.name}{f': {reason}' if reason else ''}",
            "Give a whole GGUF file of an architecture that this llama-cpp-python knows.",
        )
    try:
        check_model(_said_of_kind(loaded), model.name)
    except BackendError:
        lib.llama_model_free(loaded)
        raise
    return loaded


def allocated() -> Allocated:
    """The buffers that llama.cpp has reported since a model was loaded."""
    if "KV" not in _buffers and "RS" not in _buffers:
        return Allocated()
    cache, compute = (
        round(_MIB * sum(_buffers.get(kind, 0.0) for kind in kinds))
        for kinds in (("KV", "RS"), ("compute", "output"))
    )
    return Allocated(cache, compute)


def last_words() -> str:
    """What llama.cpp last complained of, in brackets, to stand behind a message."""
    return f" ({_recent_log[-1]})" if _recent_log else ""


def open_vocabulary(model: ModelRef) -> LlamaTokenizer:
    """Reads the head of the file and no weights."""
    params = lib.llama_model_default_params()
    params.vocab_only = True
    handle = load_model(model, params)
    try:
        return LlamaTokenizer(handle)
    except BackendError:
        lib.llama_model_free(handle)
        raise


class LlamaTokenizer:
    """A `backends.api.Tokenizer` over a loaded model, which `close` frees."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle
        self._vocab = lib.llama_model_get_vocab(handle)
        self.vocabulary_size = int(lib.llama_vocab_n_tokens(self._vocab))
        template = lib.llama_model_chat_template(handle, None)
        bos = int(lib.llama_vocab_bos(self._vocab))
        self.info = TokenizerInfo(
            declared_context=_declared_context(handle),
            vocabulary_sha256=vocabulary_sha256(self.token_texts(range(self.vocabulary_size))),
            vocabulary_size=self.vocabulary_size,
            bos_id=bos if lib.llama_vocab_get_add_bos(self._vocab) else None,
            bos_text=self._special_text(bos),
            eos_text=self._special_text(lib.llama_vocab_eos(self._vocab)),
            chat_template=template.decode("utf-8", errors="replace") if template else None,
            rope_scaling=_rope_scaling(handle),
        )

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        return [self._tokenize(text) for text in texts]

    def _tokenize(self, text: str) -> list[int]:
        # Half of a surrogate pair has no UTF-8.
        data = text.encode("utf-8", errors="replace")
        size = len(data) + 8
        buffer = (lib.llama_token * size)()
        # False: the special tokens that the model wants are not added. True: those in the text are
        # parsed.
        count = lib.llama_tokenize(self._vocab, data, len(data), buffer, size, False, True)
        if count < 0:
            raise BackendError(f"llama.cpp could not tokenize a text of {len(data)} bytes")
        return list(buffer[:count])

    def token_texts(self, token_ids: TokenIds) -> list[str]:
        every = (lib.llama_vocab_get_text(self._vocab, token) for token in token_ids)
        return [text.decode("utf-8", errors="replace") for text in every]

    def detokenize(self, token_ids: TokenIds) -> str:
        """The text of a reply; special tokens have none."""
        # Joined before it is decoded: one character may be spread over several tokens.
        return b"".join(map(self._piece, token_ids)).decode("utf-8", errors="replace")

    def is_end(self, token: int) -> bool:
        return bool(lib.llama_vocab_is_eog(self._vocab, token))

    def close(self) -> None:
        lib.llama_model_free(self._handle)

    def _piece(self, token: int, special: bool = False) -> bytes:
        buffer = ctypes.create_string_buffer(256)
        # 0: no space in front is removed.
        size = lib.llama_token_to_piece(self._vocab, token, buffer, len(buffer), 0, special)
        return buffer.raw[: max(size, 0)]

    def _special_text(self, token: int) -> str:
        return (
            self._piece(token, special=True).decode("utf-8", errors="replace") if token >= 0 else ""
        )


def _said_of_kind(handle: Any) -> dict[str, Any]:
    """What the file's head says of what the model is for."""
    architecture = _metadata(handle, "general.architecture")
    causal = f"{architecture}.attention.causal"
    pooling = f"{architecture}.pooling_type"
    return {
        "general.architecture": architecture,
        causal: _metadata(handle, causal) != "false",  # all values are texts
        pooling: int(_metadata(handle, pooling) or 0),
    }


def _declared_context(handle: Any) -> int:
    """By the file's head: `llama_model_n_ctx_train` is 0 where only the vocabulary was loaded."""
    architecture = _metadata(handle, "general.architecture")
    length = _metadata(handle, f"{architecture}.context_length")
    if not length.isdecimal():
        raise BackendError(
            f"the file does not say how long a context its {architecture or 'model'} was made for",
            "Give a whole GGUF file.",
        )
    return int(length)


def _rope_scaling(handle: Any) -> str:
    begins = f"{_metadata(handle, 'general.architecture')}.rope.scaling."
    factor = _metadata(handle, f"{begins}factor")
    original = _metadata(handle, f"{begins}original_context_length")
    return rope_in_words(
        _metadata(handle, f"{begins}type"),
        float(factor) if _NUMBER.fullmatch(factor) else None,
        int(original) if original.isdecimal() else None,
    )


def _metadata(handle: Any, key: str) -> str:
    """The value of a key in the file's head as text; empty where there is none."""
    buffer = ctypes.create_string_buffer(256)
    size = lib.llama_model_meta_val_str(handle, key.encode(), buffer, len(buffer))
    return buffer.value.decode("utf-8", errors="replace") if size >= 0 else ""
