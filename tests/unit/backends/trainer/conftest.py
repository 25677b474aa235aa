"""Tiny models with random weights, in folders, and texts that any of them can learn."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest

from backends.trainer.api import TrainOrder

GOOD, BAD = ("lovely", "great", "warm", "bright"), ("dull", "awful", "cold", "grey")
WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "film", "and", "that", "is", *GOOD, *BAD)

MakeOrder: TypeAlias = Callable[..., TrainOrder]


def planted(count: int, seed: int) -> tuple[list[str], list[int]]:
    rng = np.random.default_rng(seed)
    labels = (rng.permutation(count) % 2).tolist()
    pairs = [rng.choice(GOOD if label else BAD, 2) for label in labels]
    return [f"a {one} and {two} film" for one, two in pairs], labels


def save_tokenizer(folder: Path, words: Sequence[str] = WORDS) -> None:
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    raw: Any = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    raw.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    plain: Any = transformers.PreTrainedTokenizerFast
    plain(
        tokenizer_object=raw,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_max_length=16,
    ).save_pretrained(folder)


def save_encoder(folder: Path) -> Path:
    import torch
    import transformers

    torch.manual_seed(1)
    config = transformers.DistilBertConfig(
        vocab_size=len(WORDS),
        dim=32,
        n_layers=1,
        n_heads=2,
        hidden_dim=64,
        max_position_embeddings=16,
        dropout=0.0,
    )
    transformers.DistilBertModel(config).save_pretrained(folder)
    save_tokenizer(folder)
    return folder


@pytest.fixture(scope="session")
def encoder_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_encoder(tmp_path_factory.mktemp("distilbert"))


@pytest.fixture
def make_order(tmp_path: Path) -> MakeOrder:
    """48 texts to learn from, 16 to validate on, 20 queries, whose labels are those of
    `planted(84, 0)` behind 64."""

    def make(**given: Any) -> TrainOrder:
        texts, labels = planted(84, 0)
        folder = tmp_path / str(given.pop("place", "work"))
        folder.mkdir(exist_ok=True)
        fields: dict[str, Any] = {
            "method": "classifier",
            "classes": ("bad", "good"),
            "labels": array("i", labels[:64]),
            "fitted": 48,
            "validated": 16,
            "folder": str(folder),
            "texts": tuple(texts),
            "epochs": 8,
            "device": "cpu",
            "threads": 1,
        }
        return TrainOrder(**{**fields, **given})

    return make
