"""CLIP: images beside label sentences, zero-shot or tuned contrastively."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn

from backends.api import BackendError, ModelRef
from backends.hf.folder import check_folder, check_weights, weights_sha256
from backends.hf.loading import check_loaded, load_untrusted
from backends.hf.weights import given_folder
from backends.rules import first_line
from backends.trainer.api import Tell, TrainOrder
from backends.trainer.lesson import Lesson, Source
from backends.trainer.towers import contrastive_loss

_BATCH = 16
_EPOCHS = 3
_LEARNING_RATE = 1e-5
_REMEDY = "Give a folder with CLIP's config.json, preprocessor_config.json, safetensors, tokenizer."


class Clip(nn.Module):
    """The network beside the tokens of the label sentences."""

    def __init__(self, network: Any, sentences: Mapping[str, torch.Tensor]) -> None:
        super().__init__()
        self.network = network
        self.names = tuple(sentences)
        for name, tokens in sentences.items():
            self.register_buffer(name, tokens, persistent=False)

    def forward(self, pixel_values: Any, labels: Any = None) -> dict[str, Any]:
        sentences = {name: getattr(self, name) for name in self.names}
        logits = self.network(pixel_values=pixel_values, **sentences).logits_per_image
        if labels is None:
            return {"logits": logits}
        return {"loss": contrastive_loss(logits, labels), "logits": logits}


class _Images(Sequence[Any]):
    """Rows that are read when they are looked at: the images themselves would fill the memory."""

    def __init__(self, files: Sequence[str], labels: Sequence[int], processor: Any) -> None:
        self._files, self._labels, self._processor = files, labels, processor

    def __len__(self) -> int:
        return len(self._files)

    def __iter__(self) -> Iterator[Any]:
        return (self[at] for at in range(len(self)))

    def __getitem__(self, at: Any) -> Any:
        from backends.embedder.decoding import UnreadableError, decode

        try:
            image = decode(self._files[at]).image
        except UnreadableError as error:
            raise BackendError(
                f"{self._files[at]} cannot be read as an image: {error}",
                "Replace it, or embed the images again without it.",
            ) from error
        pixels = self._processor(images=image, return_tensors="pt")["pixel_values"][0]
        labelled = {"labels": self._labels[at]} if at < len(self._labels) else {}
        return {"pixel_values": pixels, **labelled}


def clip_lesson(
    model: ModelRef | None, order: TrainOrder, device: torch.device, tell: Tell
) -> Lesson:
    del device, tell
    if model is None:
        raise BackendError("there is no CLIP without its weights", "Name them with --model.")
    folder = given_folder(model)
    config = check_folder(folder, model.name, trusted=False)
    if config.get("model_type") != "clip":
        raise BackendError(
            f"{model.name} is a {str(config.get('model_type'))[:40]} model, and no CLIP", _REMEDY
        )
    check_weights(folder, model.name, config)
    plain: Any = transformers.CLIPModel
    network, info = load_untrusted(plain, folder, model.name, _REMEDY, dtype=torch.float32)
    check_loaded(network, info, model.name)
    tokenizer, processor = _readers(folder, model.name)
    tokens = tokenizer(
        list(order.classes),
        padding=True,
        truncation=True,
        return_tensors="pt",
        max_length=network.config.text_config.max_position_embeddings,
    )
    vocabulary = network.config.text_config.vocab_size
    if int(tokens["input_ids"].max()) >= vocabulary:
        raise BackendError(
            f"the tokenizer of {model.name} has more tokens than the {vocabulary:,} of the model",
            "Fetch the model's files again, all of them from one place.",
        )
    revision = folder.name if folder.parent.name == "snapshots" else ""
    return Lesson(
        module=Clip(network, {key: tokens[key] for key in ("input_ids", "attention_mask")}),
        rows=_Images(order.images, order.labels, processor),
        collate=_stacked,
        source=Source(model.name, "pretrained", revision, weights_sha256(folder)),
        batch=_BATCH,
        learning_rate=_LEARNING_RATE,
        epochs=_EPOCHS,
    )


def _stacked(rows: list[Any]) -> dict[str, Any]:
    batch: dict[str, Any] = {"pixel_values": torch.stack([row["pixel_values"] for row in rows])}
    if "labels" in rows[0]:
        batch["labels"] = torch.tensor([row["labels"] for row in rows])
    return batch


def _readers(folder: Path, name: str) -> tuple[Any, Any]:
    tokenizers: Any = transformers.AutoTokenizer
    processors: Any = transformers.AutoImageProcessor
    given = {"local_files_only": True, "trust_remote_code": False}
    try:
        tokenizer = tokenizers.from_pretrained(folder, **given)
        return tokenizer, processors.from_pretrained(folder, use_fast=False, **given)
    except Exception as error:  # whatever a missing or damaged file makes transformers raise
        said = first_line(error).replace(str(folder), name)
        raise BackendError(
            f"{name} has no usable tokenizer or preprocessor_config.json: {said}", _REMEDY
        ) from error
