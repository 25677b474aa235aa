"""llama.cpp's vocabulary alone, beside the one of a loaded model."""

from __future__ import annotations

from contextlib import closing

from backends.api import ModelRef
from backends.llama_cpp import backend as llama_cpp


def test_it_is_the_loaded_models(model: ModelRef) -> None:
    from backends.llama_cpp.context import LlamaContext

    text = "one two\n3 <|im_end|> é"
    with (
        closing(llama_cpp.open_tokenizer(model, {})) as alone,
        closing(LlamaContext(model, {"threads": 1}, 16, 32, 1)) as context,
    ):
        assert alone.info == context.tokenizer.info
        assert alone.info.declared_context == 8192
        [ids] = alone.tokenize([text])
        assert context.tokenize([text]) == [ids]
        assert alone.token_texts(ids) == context.token_texts(ids)
        assert alone.detokenize(ids) == "one two\n3  é"
