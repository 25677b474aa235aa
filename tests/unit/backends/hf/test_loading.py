"""Weights that are not there, or not of this model, are an error and never made up."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from backends.api import BackendError, Decoding
from backends.rules import NOT_FINITE
from tests.unit.backends.hf.tiny import WORDS, ask, llama, opened, save

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("transformers") is None, reason="pip install 'llm-backend-harness[hf]'"
)

Weights: TypeAlias = dict[str, Any]
Damage: TypeAlias = Callable[[Weights], object]


def damaged(folder: Path, damage: Damage) -> None:
    from safetensors.torch import load_file, save_file

    file = folder / "model.safetensors"
    weights = load_file(file)
    damage(weights)
    save_file(weights, file, metadata={"format": "pt"})


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(llama(), tmp_path_factory.mktemp("whole"))


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    for path in whole.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


def rename(weights: Weights, old: str, new: str) -> None:
    for key in [key for key in weights if old in key]:
        weights[key.replace(old, new)] = weights.pop(key)


LAYER = "model.layers.1.mlp.up_proj.weight"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda w: w.pop(LAYER), r"tiny lacks weights .* \(1: model\.layers\.1\.mlp\.up_proj"),
        (lambda w: w.pop("lm_head.weight"), r"lacks weights .* \(1: lm_head\.weight\)"),
        (lambda w: w.pop("model.embed_tokens.weight"), r"lacks .* \(1: model\.embed_tok"),
        (lambda w: rename(w, "model.", "decoder."), r"lacks weights .* \(20: .*, \.\.\.\)"),
        (lambda w: rename(w, "layers.1.", "layers.2."), r"lacks .* \(9: model\.layers\.1\."),
        (lambda w: w.update({LAYER: w[LAYER][:8]}), r"up_proj\.weight is 8 x 32 and not 32 x 32"),
        (
            lambda w: w.update({LAYER.replace("layers.1", "layers.2"): w[LAYER].clone()}),
            r"no use for \(1: model\.layers\.2\.mlp\.up_proj\.weight\)",
        ),
        (
            lambda w: w.update({LAYER.replace("weight", "bias"): w[LAYER][0].clone()}),
            r"no use for \(1: model\.layers\.1\.mlp\.up_proj\.bias\)",
        ),
        (
            lambda w: w.update({f"vision.{i}.weight{i}": w[LAYER].clone() for i in range(30)}),
            r"no use for \(30: ",
        ),
        (lambda w: [tensor.zero_() for tensor in w.values()], "equally likely"),
        (lambda w: w["model.norm.weight"].zero_(), "equally likely"),
    ],
)
def test_damaged_weights_are_refused(folder: Path, damage: Damage, message: str) -> None:
    damaged(folder, damage)
    with pytest.raises(BackendError, match=message) as caught:
        opened(folder)
    assert str(folder) not in str(caught.value)


def test_a_head_that_nobody_needs_and_tied_weights_are_no_hindrance(tmp_path: Path) -> None:
    save(llama(tie_word_embeddings=True), tmp_path)

    def add_head(weights: Weights) -> None:
        assert "lm_head.weight" not in weights
        weights["score.weight"] = weights[LAYER].clone()

    damaged(tmp_path, add_head)
    opened(tmp_path).close()


@pytest.mark.parametrize("mode", ["free", "choice", "score"])
def test_logits_that_are_not_finite_fail_the_reply(folder: Path, mode: Any) -> None:
    def spoil(weights: Weights) -> None:
        weights["model.embed_tokens.weight"][7] = float("nan")

    damaged(folder, spoil)
    prompts = [[1, 2, 3, 4], [1, 2, 7, 4], [1, 2, 3, 5]]
    with closing(opened(folder)) as session:
        for labels in (((3,), (6,)), ((3, 7, 3), (6, 5))):
            replies = ask(session, prompts, Decoding(mode, labels, max_tokens=3))
            failed = [reply.finish == "failed" for reply in replies]
            # behind a label's token 7 nothing is finite either
            assert failed == [len(labels[0]) == 3, True, len(labels[0]) == 3]
            assert {reply.text for reply in replies if reply.finish == "failed"} == {NOT_FINITE}


def test_a_prompt_with_a_special_token_that_the_model_has_not_fails_alone(folder: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    tokenizer.save_pretrained(folder)
    with closing(opened(folder)) as session:
        [bad] = session.tokenize(["<image>"])
        assert bad == [WORDS]
        one, other = ask(session, [[1, *bad, 2], [1, 2]], Decoding("score", ((3,),)))
    assert (one.finish, other.finish) == ("failed", "scored")
    assert one.text == f"the model has no embedding for token {WORDS} of the prompt"


def test_a_vocabulary_beyond_the_embedding_is_refused(tmp_path: Path) -> None:
    save(llama(), tmp_path, words=WORDS + 5)
    with pytest.raises(BackendError, match=f"5 tokens .* the model knows {WORDS}"):
        opened(tmp_path)


def change(folder: Path, **values: Any) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


@pytest.mark.parametrize(
    "values",
    [
        {"vocab_size": "many"},
        {"vocab_size": 10**30},
        {"vocab_size": 10**9},
        {"hidden_size": 10**8},
        {"num_hidden_layers": 10**7},
        {"num_hidden_layers": 1},
        {"num_attention_heads": 0},
        {"num_attention_heads": [4]},
        {"num_key_value_heads": 3},
        {"max_position_embeddings": None},
        {"max_position_embeddings": 1e300},
        {"max_position_embeddings": -1},
        {"hidden_act": "nosuch"},
        {"hidden_act": 7},
        {"model_type": "nosuch"},
        {"model_type": 3},
        {"model_type": None},
        {"rope_parameters": {"rope_type": "nosuch"}},
        {"rope_parameters": "none"},
        {"layer_types": ["nosuch", "full_attention"]},
        {"quantization_config": 3},
        {"intermediate_size": 2**60},
        {"rms_norm_eps": "small"},
        {"architectures": ["LlamaForSequenceClassification"]},
        {"architectures": ["LlamaModel"]},
        {"is_encoder_decoder": True},
    ],
    ids=str,
)
def test_a_configuration_that_cannot_be_is_one_error(folder: Path, values: Any) -> None:
    change(folder, **values)
    with pytest.raises(BackendError) as caught:
        opened(folder)
    assert str(folder) not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "7", "\ufeff{}", '{"a": 1}x', "[" * 99_999])
@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json"])
def test_broken_json_is_one_error(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(text)
    with pytest.raises(BackendError) as caught:
        opened(folder)
    assert str(folder) not in str(caught.value)


@pytest.mark.parametrize("size", [0, 5, 40, -10])
def test_a_part_of_the_weights_is_one_error(folder: Path, size: int) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:size])
    with pytest.raises(BackendError, match="tiny"):
        opened(folder)
