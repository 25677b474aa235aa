"""Weights out of GGUF files: all of them, of that file alone, and as llama.cpp computes them."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backends.api import BackendError, Decoding, ModelRef
from backends.hf import backend as hf
from backends.hf.rope import TENSOR
from backends.hf.weights import folder_of, tokenizer_folder_of
from tests.unit.backends.hf.test_rope import scaled_by
from tests.unit.backends.hf.tiny import ask, llama, save
from tests.unit.backends.tiny_gguf import HEADS, WIDTH, random_tensors, words, write, write_parts

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("gguf") is None or importlib.util.find_spec("torch") is None,
    reason="pip install 'llm-backend-harness[hf]'",
)

OPTIONS: dict[str, Any] = {"max_model_len": 64, "threads": 1, "dtype": "float32"}
PROMPT = [40, 41, 50, 60, 33]
LABELS = ((10,), (20, 21))


def reference(path: Path, cache: Path) -> ModelRef:
    return ModelRef(path.name, "gguf", str(path), str(cache))


def logprobs(session: Any, prompt: Sequence[int] = PROMPT) -> Any:
    [reply] = ask(session, [prompt], Decoding("score", LABELS))
    return reply.label_logprobs


def by_hf(path: Path, cache: Path, prompt: Sequence[int] = PROMPT) -> Any:
    options = {**OPTIONS, "max_model_len": len(prompt) + 10}
    with closing(hf.open_session(reference(path, cache), options)) as session:
        return logprobs(session, prompt)


def by_llama_cpp(path: Path, prompt: Sequence[int] = PROMPT) -> Any:
    llama_cpp = pytest.importorskip("backends.llama_cpp.backend")
    if not llama_cpp.check().available:
        pytest.skip(llama_cpp.check().remedy)
    options = {"max_model_len": len(prompt) + 10, "threads": 1}
    with closing(llama_cpp.open_session(reference(path, path.parent), options)) as session:
        return logprobs(session, prompt)


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("whole")
    return by_hf(write(folder / "tiny.gguf"), folder / "cache")


def test_a_model_in_several_files_is_read_whole(tmp_path: Path, expected: Any) -> None:
    first, *_others = write_parts(tmp_path)
    assert by_hf(first, tmp_path / "cache") == expected
    assert not list((tmp_path / "cache").glob(".alone*"))


def test_llama_cpp_reads_it_whole_too_and_finds_the_same(tmp_path: Path, expected: Any) -> None:
    first, *_others = write_parts(tmp_path)
    assert by_llama_cpp(first) == pytest.approx(expected, abs=0.2)  # bfloat16 there


def test_another_part_makes_another_folder(tmp_path: Path) -> None:
    first, _second, last = write_parts(tmp_path)
    before = folder_of(reference(first, tmp_path / "cache"))
    content = bytearray(last.read_bytes())
    content[-64:] = bytes(64)
    last.write_bytes(content)
    assert folder_of(reference(first, tmp_path / "cache")) != before


def test_a_part_that_is_missing_or_not_the_first_is_one_error(tmp_path: Path) -> None:
    first, second, last = write_parts(tmp_path)
    with pytest.raises(BackendError, match="and not the first") as caught:
        folder_of(reference(second, tmp_path / "cache"))
    assert caught.value.remedy == "Give the first: tiny-00001-of-00003.gguf"
    last.rename(tmp_path / "elsewhere.gguf")
    for find in (folder_of, tokenizer_folder_of):
        with pytest.raises(BackendError, match=r"tiny-00003-of-00003\.gguf is not beside it"):
            find(reference(first, tmp_path / "cache"))


def test_a_part_under_another_name_is_one_error(tmp_path: Path) -> None:
    first, *_others = write_parts(tmp_path)
    alone = first.rename(tmp_path / "renamed.gguf")
    with pytest.raises(BackendError, match="lacks"):
        folder_of(reference(alone, tmp_path / "cache"))


def test_parts_of_two_models_are_one_error(tmp_path: Path) -> None:
    first, second, last = write_parts(tmp_path)
    last.write_bytes(second.read_bytes())
    with pytest.raises(BackendError):
        folder_of(reference(first, tmp_path / "cache"))


def test_only_the_file_counts_and_not_what_lies_beside_it(tmp_path: Path, expected: Any) -> None:
    mixed = save(llama(), tmp_path / "mixed")
    file = write(mixed / "tiny.gguf")
    folder = Path(tokenizer_folder_of(reference(file, tmp_path / "cache")))
    vocabulary = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
    assert len(vocabulary) in (len(words()), len(words()) - 1)
    assert by_hf(file, tmp_path / "cache") == expected


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("blk.1.ffn_up.weight", r"lacks weights .* \(1: model\.layers\.1\.mlp\.up_proj\.weight\)"),
        ("token_embd.weight", r"lacks weights .* \(1: "),
        ("blk.1.", r"lacks weights .* \(9: "),
    ],
)
def test_a_tensor_that_is_not_there_is_named(tmp_path: Path, name: str, message: str) -> None:
    left = {key: values for key, values in random_tensors().items() if not key.startswith(name)}
    file = write(tmp_path / "tiny.gguf", left)
    with pytest.raises(BackendError, match=message):
        folder_of(reference(file, tmp_path / "cache"))


def test_a_tensor_of_another_shape_is_named(tmp_path: Path) -> None:
    tensors = random_tensors()
    tensors["blk.0.ffn_up.weight"] = tensors["blk.0.ffn_up.weight"][:32]
    file = write(tmp_path / "tiny.gguf", tensors)
    with pytest.raises(BackendError, match=r"up_proj\.weight is 32 x 64 and not 64 x 64"):
        folder_of(reference(file, tmp_path / "cache"))


def test_a_tensor_that_transformers_does_not_know_is_named(tmp_path: Path) -> None:
    tensors = random_tensors()
    tensors["blk.0.attn_q.bias"] = tensors["blk.0.attn_q.weight"][0]
    file = write(tmp_path / "tiny.gguf", tensors)
    with pytest.raises(BackendError, match=r"blk\.0\.attn_q\.bias"):
        folder_of(reference(file, tmp_path / "cache"))


def test_positions_are_scaled_as_llama_cpp_scales_them(tmp_path: Path) -> None:
    """As the files of Llama 3 say it, by a tensor."""
    prompt = [7 * i % 250 for i in range(240)]
    scaled = {**random_tensors(), TENSOR: scaled_by(8.0, low=1.0, high=4.0, original=64)}
    file = write(tmp_path / "scaled.gguf", scaled)
    found = by_hf(file, tmp_path / "cache", prompt)
    assert found == pytest.approx(by_llama_cpp(file, prompt), abs=0.1)  # bfloat16 here
    plain = by_hf(write(tmp_path / "plain.gguf"), tmp_path / "cache", prompt)
    assert found != pytest.approx(plain, abs=0.15)


def test_positions_that_transformers_cannot_scale_so_are_refused(tmp_path: Path) -> None:
    uneven = np.linspace(1, 8, WIDTH // HEADS // 2, dtype=np.float32)
    file = write(tmp_path / "tiny.gguf", {**random_tensors(), TENSOR: uneven})
    with pytest.raises(BackendError, match=r"leaves out \(rope_freqs\.weight"):
        folder_of(reference(file, tmp_path / "cache"))


def test_a_model_that_embeds_is_refused_before_it_is_converted(tmp_path: Path) -> None:
    file = write(tmp_path / "tiny.gguf", head={"pooling_type": 3})
    with pytest.raises(BackendError, match="not a model that writes text"):
        folder_of(reference(file, tmp_path / "cache"))


@pytest.mark.parametrize("length", [0, 3, 100, 3000, -1, -5000])
def test_a_part_of_a_file_is_one_error(tmp_path: Path, length: int) -> None:
    file = write(tmp_path / "tiny.gguf")
    file.write_bytes(file.read_bytes()[:length])
    with pytest.raises(BackendError, match=r"tiny\.gguf"):
        folder_of(reference(file, tmp_path / "cache"))
