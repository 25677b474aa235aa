"""What a converted tokenizer does, beside llama.cpp's on the file itself."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backends.hf import backend as hf
from backends.hf.conversion import adds_bos, end_ids
from backends.hf.weights import folder_of
from backends.llama_cpp import backend as llama_cpp
from harness.engine.models import KNOWN_MODELS, resolve_model
from harness.errors import EngineError

TRICKY = (
    " ",
    "  a \n 8 \t9 ",
    "x: 12 34 y: REAL\n" * 3,
    "don't I'M",
    "é 日本 🦙 e\u0301 \u200b",
    "<bos>a<eos>b</s>",
    "<|im_start|>user\nhi<|im_end|>",
    "<start_of_turn>user\nhi<end_of_turn>",
    "<0x41> a\r\n\x00",
)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"model": "llama"}, True),
        ({"model": "llama", "add_bos_token": False}, False),
        ({"model": "gpt2", "pre": "smollm"}, False),
        ({"model": "gpt2", "pre": "smollm", "add_bos_token": True}, True),
        ({"model": "gpt2", "pre": "llama-bpe"}, True),
        ({"model": "gemma4", "add_bos_token": False}, True),
        ({}, False),
    ],
)
def test_the_first_token_is_by_the_rules_of_llama_cpp(
    fields: dict[str, Any], expected: bool
) -> None:
    metadata = {f"tokenizer.ggml.{key}": value for key, value in fields.items()}
    assert adds_bos(metadata) is expected


def test_ends_are_those_that_are_named_and_those_that_look_so() -> None:
    vocabulary = {"a": 0, "<|im_end|>": 1, "end": 2, "<|endoftext|>": 3}
    assert end_ids(vocabulary, {}) == [1, 3]
    assert end_ids(vocabulary, {"tokenizer.ggml.eos_token_id": 2}) == [1, 2, 3]


def test_beside_some_tokens_others_are_no_ends() -> None:
    harmony = {"<|end|>": 0, "<|return|>": 1, "<|call|>": 2}
    assert end_ids(harmony, {}) == [1, 2]
    assert end_ids({"<|end|>": 0, "<|return|>": 1}, {}) == [0, 1]


@dataclass(frozen=True, slots=True)
class Both:
    """llama.cpp's vocabulary of a model's file, and the tokenizer and the end tokens of the
    converted folder."""

    llama: Any
    tokenizer: Any
    ends: list[int]


@pytest.fixture(scope="module", params=list(KNOWN_MODELS))
def both(request: pytest.FixtureRequest) -> Any:
    for availability in (llama_cpp.check(), hf.check()):
        if not availability.available:
            pytest.skip(f"{availability.reason}. {availability.remedy}")
    try:
        model = resolve_model(request.param, llama_cpp.FORMATS, {})
    except EngineError as error:
        pytest.skip(f"{error}. {error.remedy}")
    from transformers import GenerationConfig

    from backends.hf.tokenizer import load_tokenizer

    folder = folder_of(model)
    ends: Any = GenerationConfig.from_pretrained(folder).eos_token_id
    with closing(llama_cpp.open_tokenizer(model, {})) as llama:
        yield Both(llama, load_tokenizer(model, folder, trusted=False), ends)


def test_all_that_is_known_without_weights_is_the_same(both: Both) -> None:
    assert both.tokenizer.info == both.llama.info


def test_the_same_tokens_end_a_reply(both: Both) -> None:
    llama = both.llama
    assert both.ends == [id_ for id_ in range(llama.vocabulary_size) if llama.is_end(id_)]


@pytest.mark.parametrize("text", TRICKY)
def test_tricky_texts_are_the_same_tokens(both: Both, text: str) -> None:
    [ids] = both.llama.tokenize([text])
    assert both.tokenizer.tokenize([text]) == [ids]
    assert both.tokenizer.detokenize(ids) == both.llama.detokenize(ids)


# Derandomized: the two have their tables of Unicode from different years, and a space beside the
# very mark that SentencePiece has for spaces is not the same to them.
@settings(derandomize=True, deadline=None)
@given(text=st.text(st.sampled_from("ab 19\n\t'.<>é日🦙") | st.characters(codec="utf-8")))
def test_texts_are_the_same_tokens(both: Both, text: str) -> None:
    assert both.tokenizer.tokenize([text]) == both.llama.tokenize([text])
