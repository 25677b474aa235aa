"""Predictions from heads alone, by kind of layer. What llama.cpp itself reports is compared in
tests/end_to_end/test_fit.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from backends.api import BackendError, ModelRef
from backends.gguf import Head
from backends.gguf_shape import Shape
from backends.llama_cpp import memory
from tests.unit.backends.tiny_gguf import HEADS, LAYERS, WIDTH, random_tensors, words, write

CELLS = 3328  # 1,024 tokens, 2,048 for branches and 1, in whole 256


def head(tensors: dict[str, int] | None = None, architecture: str = "a", **values: Any) -> Head:
    """Of a model of 4 layers with 8 heads of 64."""
    plain = {"block_count": 4, "embedding_length": 512, "attention.head_count": 8}
    given = plain | {key.replace("__", "."): value for key, value in values.items()}
    return Head(
        {
            "general.architecture": architecture,
            **{f"{architecture}.{key}": value for key, value in given.items()},
        },
        {} if tensors is None else tensors,
        1000,
    )


@pytest.mark.parametrize(
    ("values", "cached"),
    [
        ({}, [(512, 512)] * 4),
        ({"attention__head_count_kv": 2}, [(128, 128)] * 4),  # GQA
        ({"attention__head_count_kv": (2, 1, 2, 1)}, [(128, 128), (64, 64)] * 2),
        (
            {"attention__key_length": 256, "attention__value_length": 96},
            [(2048, 768)] * 4,
        ),
        # MLA: one latent head, and values are a part of its keys
        (
            {
                "attention__head_count_kv": 1,
                "attention__key_length": 576,
                "attention__value_length": 512,
                "attention__key_length_mla": 192,
                "attention__value_length_mla": 128,
            },
            [(576, 0)] * 4,
        ),
        # a sliding window is held whole, so that prompts can be branched from
        ({"attention__sliding_window": 8, "attention__head_count_kv": 1}, [(64, 64)] * 4),
        # which layers have one may decide how long their heads are
        (
            {
                "attention__key_length": 128,
                "attention__key_length_swa": 64,
                "attention__value_length": 96,
                "attention__sliding_window_pattern": (True, False, True, False),
            },
            [(512, 768), (1024, 768)] * 2,
        ),
        # the last layers take what the layers before them hold
        ({"attention__shared_kv_layers": 1}, [(512, 512)] * 3),
        # the last layer predicts a further token (MTP), and is not evaluated
        ({"nextn_predict_layers": 1}, [(512, 512)] * 3),
        ({"nextn_predict_layers": 1, "attention__shared_kv_layers": 2}, [(512, 512)]),
        # Gemma 3n, whose files need not say how many share
        ({"architecture": "gemma3n", "block_count": 30}, [(512, 512)] * 20),
        # hybrids: layers without heads are recurrent, or each fourth has attention
        ({"attention__head_count_kv": (0, 2, 0, 0), "ssm__inner_size": 64}, [(128, 128)]),
        ({"full_attention_interval": 4, "ssm__inner_size": 64}, [(512, 512)]),
    ],
)
def test_what_is_held_of_a_token(values: dict[str, Any], cached: list[tuple[int, int]]) -> None:
    assert Shape(head(**values), "made").cached_numbers == cached


@pytest.mark.parametrize(
    ("values", "numbers"),
    [
        ({}, 0),
        (
            {
                "attention__head_count_kv": (0, 2, 0, 0),
                "ssm__inner_size": 100,
                "ssm__state_size": 16,
                "ssm__group_count": 2,
                "ssm__conv_kernel": 4,
            },
            3 * (3 * (100 + 2 * 2 * 16) + 16 * 100),
        ),
        (  # each layer has attention and a state
            {"architecture": "falcon-h1", "ssm__inner_size": 100, "ssm__state_size": 16},
            4 * 16 * 100,
        ),
        (  # attention, state, feed-forward, state
            {
                "architecture": "nemotron_h",
                "attention__head_count_kv": (2, 0, 0, 0),
                "feed_forward_length": (0, 0, 64, 0),
                "ssm__inner_size": 100,
                "ssm__state_size": 16,
            },
            2 * 16 * 100,
        ),
        (  # Kimi Linear: a convolution for each of queries, keys and values
            {
                "architecture": "kimi-linear",
                "attention__head_count_kv": (0, 0, 0, 1),
                "kda__head_dim": 64,
                "ssm__conv_kernel": 4,
            },
            3 * (3 * 3 * 512 + 64 * 512),
        ),
        ({"attention__head_count": 0, "wkv__head_size": 64}, 4 * 512 * (2 + 64)),
        ({"attention__head_count_kv": (0, 8, 0, 8), "shortconv__l_cache": 3}, 2 * 512 * 2),
    ],
)
def test_the_state_of_recurrent_layers(values: dict[str, Any], numbers: int) -> None:
    assert Shape(head(**values), "made").state_numbers == numbers


@pytest.mark.parametrize("tied", [True, False])
def test_weights_and_vocabulary_are_those_of_the_file(tmp_path: Path, tied: bool) -> None:
    """Tied embeddings are there once, and the rows of a padded vocabulary are all there."""
    tensors = random_tensors()
    if tied:
        del tensors["output.weight"]
    path = write(tmp_path / "tiny.gguf", tensors)
    plan = memory.predict(ModelRef("tiny", "gguf", str(path)), {}, 1024, on_gpu=False)
    assert plan is not None
    stored = sum(values.nbytes for values in tensors.values())
    assert plan.weights_bytes == pytest.approx(stored, abs=100)  # heads are padded
    assert plan.cache_bytes == CELLS * LAYERS * 2 * WIDTH * 2
    assert plan.token_bytes == LAYERS * 2 * WIDTH * 2
    logits = 98 * len(words()) * 4
    assert plan.compute_bytes == 2 * logits + 512 * CELLS * 2


@pytest.mark.parametrize(
    ("given", "is_whole"),
    [({}, False), ({"flash_attn": "on"}, False), ({"flash_attn": "off"}, True)],
)
def test_without_flash_attention_all_scores_are_held(
    tmp_path: Path, given: dict[str, Any], is_whole: bool
) -> None:
    """Of all heads, in f32; else the mask alone, in f16."""
    path = write(tmp_path / "tiny.gguf")
    options = {"n_ubatch": 128} | given
    plan = memory.predict(ModelRef("tiny", "gguf", str(path)), options, 1024, on_gpu=False)
    assert plan is not None
    logits = 98 * len(words()) * 4
    scores = 128 * CELLS * HEADS * 4
    wanted = logits + scores + 128 * CELLS * 4 if is_whole else 2 * logits + 128 * CELLS * 2
    assert plan.compute_bytes == wanted


@pytest.mark.parametrize(
    ("values", "heads"),
    [
        ({"attention__head_count_kv": 2}, 8),
        ({"attention__head_count": (4, 16, 4, 4), "attention__head_count_kv": (0, 2, 2, 2)}, 16),
        ({"attention__head_count": (64, 16, 4, 4), "attention__head_count_kv": (0, 2, 2, 2)}, 16),
        ({"attention__head_count": 0, "wkv__head_size": 64}, 0),
    ],
)
def test_scores_are_those_of_the_heads_of_queries(values: dict[str, Any], heads: int) -> None:
    assert Shape(head(**values), "made").query_heads == heads


@pytest.mark.parametrize(
    ("kind", "bytes_"), [("f32", 256), ("f16", 128), ("q8_0", 68), ("q4_0", 36)]
)
def test_the_format_of_the_cache_counts(tmp_path: Path, kind: str, bytes_: int) -> None:
    path = write(tmp_path / f"{kind}.gguf")
    options: dict[str, Any] = {"cache_type_k": kind, "cache_type_v": "f16", "n_ubatch": 128}
    plan = memory.predict(ModelRef("tiny", "gguf", str(path)), options, 1024, on_gpu=True)
    assert plan is not None
    assert plan.token_bytes == LAYERS * (bytes_ + 128)
    assert plan.on_gpu


@pytest.mark.parametrize(
    ("layers", "is_known"), [(1, False), (LAYERS, False), (99, True), (-1, True)]
)
def test_of_a_model_that_is_half_on_a_gpu_nothing_is_predicted(
    tmp_path: Path, layers: int, is_known: bool
) -> None:
    """Else one would be refused that was divided because the GPU cannot hold it whole."""
    model = ModelRef("tiny", "gguf", str(write(tmp_path / "tiny.gguf")))
    plan = memory.predict(model, {"n_gpu_layers": layers}, 1024, on_gpu=True)
    assert (plan is not None) == is_known


@pytest.mark.parametrize(
    "values",
    [
        {"block_count": 2**40},
        {"block_count": -1},
        {"embedding_length": "wide"},
        {"attention__head_count_kv": -8},
        {"attention__key_length": 2**40},
        {"attention__head_count_kv": (8,)},  # of four layers
    ],
)
def test_a_head_that_lies_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(
        BackendError, match=r"the head of made says that a.* is .*, which cannot be"
    ):
        _ = Shape(head(**values), "made").cached_numbers


def test_a_head_of_endless_tensors_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "endless.gguf"
    path.write_bytes(b"GGUF" + (3).to_bytes(4, "little") + (2**60).to_bytes(8, "little") * 2)
    with pytest.raises(BackendError, match="endless is not a whole GGUF file"):
        memory.predict(ModelRef("endless", "gguf", str(path)), {}, 1024, on_gpu=False)
