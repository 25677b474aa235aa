"""Tiny models of real architectures, with weights at random, in folders as the hub has them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

GOOD, BAD = ("lovely", "great", "warm", "bright"), ("dull", "awful", "cold", "grey")
WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "film", "and", "that", "is", *GOOD, *BAD)


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


def save_clip(folder: Path, seed: int = 0) -> Path:
    import torch
    import transformers

    torch.manual_seed(seed)
    side: dict[str, Any] = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    text = {**side, "vocab_size": len(WORDS), "max_position_embeddings": 16, "eos_token_id": 3}
    vision = {**side, "image_size": 16, "patch_size": 8}
    config = transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=16)
    transformers.CLIPModel(config).save_pretrained(folder)
    save_tokenizer(folder)
    size = {"height": 16, "width": 16}
    transformers.CLIPImageProcessorPil(size=size, do_center_crop=False).save_pretrained(folder)
    return folder


def save_vit(folder: Path) -> Path:
    import torch
    import transformers

    torch.manual_seed(0)
    config = transformers.ViTConfig(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=32,
        patch_size=16,
    )
    transformers.ViTModel(config).save_pretrained(folder)
    size = {"height": 32, "width": 32}
    transformers.ViTImageProcessorPil(size=size).save_pretrained(folder)
    return folder
