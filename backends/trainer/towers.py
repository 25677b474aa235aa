"""Two towers: projections of fixed vectors, and of the text encoder's vectors of label sentences,
into one space, trained contrastively. What CLIP is, without an encoder of images."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import transformers
from torch import nn

from backends.api import ModelRef
from backends.trainer.api import Tell, TrainOrder, TrainStep
from backends.trainer.encoder import Encoder, open_encoder
from backends.trainer.lesson import Lesson

_WIDTH = 128
_BATCH = 64
_EPOCHS = 30
_LEARNING_RATE = 1e-3
_SCALE = 1 / 0.07  # what CLIP begins with
_MOST_SCALE = 100.0
_TEXTS_AT_ONCE = 32


def contrastive_loss(logits: Any, labels: Any) -> Any:
    """Of rows with the sentences of their batch, both ways. Rows of one class have the same
    sentence: each of these is as right as the others, and none counts as wrong."""
    pairs = logits[:, labels]  # (n, n): row i with the sentence of row j
    same = (labels[:, None] == labels[None, :]).float()
    targets = same / same.sum(dim=1, keepdim=True)
    cross: Any = nn.functional.cross_entropy
    return (cross(pairs, targets) + cross(pairs.T, targets)) / 2


class TwoTowers(nn.Module):
    """`sentences` (classes, t) are vectors of the label sentences."""

    def __init__(self, width: int, sentences: torch.Tensor) -> None:
        super().__init__()
        self.sentences: torch.Tensor
        self.register_buffer("sentences", sentences, persistent=False)
        self.left = nn.Linear(width, _WIDTH)
        self.right = nn.Linear(sentences.shape[1], _WIDTH)
        self.log_scale = nn.Parameter(torch.tensor(math.log(_SCALE)))

    def forward(self, vectors: Any, labels: Any = None) -> dict[str, Any]:
        left = nn.functional.normalize(self.left(vectors), dim=1)
        right = nn.functional.normalize(self.right(self.sentences), dim=1)
        logits = self.log_scale.exp().clamp(max=_MOST_SCALE) * left @ right.T
        if labels is None:
            return {"logits": logits}
        return {"loss": contrastive_loss(logits, labels), "logits": logits}


def towers_lesson(
    model: ModelRef | None, order: TrainOrder, device: torch.device, tell: Tell
) -> Lesson:
    """`order.classes` are sentences. Rows are vectors, or texts: then the encoder makes vectors of
    these, too."""
    encoder = open_encoder(model, [*order.texts[: order.fitted], *order.classes])
    network = encoder.load(transformers.AutoModel).to(device).eval()
    sentences, _ = _vectors(encoder, network, order.classes, device, lambda _: None)
    if order.vectors:
        read: Any = np.load(order.vectors, allow_pickle=False)
        X, cut = torch.from_numpy(read), 0
    else:
        X, cut = _vectors(encoder, network, order.texts, device, tell)
    # On one scale, by the rows that are learnt from.
    mean, deviation = X[: order.fitted].mean(dim=0), X[: order.fitted].std(dim=0, correction=0)
    X = (X - mean) / torch.where(deviation > 0, deviation, 1.0)
    rows: list[Mapping[str, Any]] = [{"vectors": row} for row in X]
    labelled = [{**row, "labels": label} for row, label in zip(rows, order.labels, strict=False)]
    return Lesson(
        module=TwoTowers(X.shape[1], sentences.clone()),
        rows=[*labelled, *rows[len(labelled) :]],
        collate=_stacked,
        source=encoder.source,
        batch=_BATCH,
        learning_rate=_LEARNING_RATE,
        epochs=_EPOCHS,
        reduced=False,  # two small matrices: nothing is gained
        cut=cut,
        longest=encoder.longest,
    )


def _stacked(rows: list[Any]) -> dict[str, Any]:
    batch: dict[str, Any] = {"vectors": torch.stack([row["vectors"] for row in rows])}
    if "labels" in rows[0]:
        batch["labels"] = torch.tensor([row["labels"] for row in rows])
    return batch


def _vectors(
    encoder: Encoder, network: Any, texts: Sequence[str], device: torch.device, tell: Tell
) -> tuple[torch.Tensor, int]:
    """The mean of each text's last hidden states, float32 on the CPU, and how many were cut."""
    tokens, cut = encoder.tokens(texts)
    # Of one length each, as nearly as can be: padding is computed too.
    order = sorted(range(len(tokens)), key=lambda row: len(tokens[row]["input_ids"]))
    found: dict[int, torch.Tensor] = {}
    for done, at in _batches(order):
        tell(TrainStep("reading the texts", step=done, steps=len(order)))
        batch = {key: one.to(device) for key, one in encoder.pad([tokens[i] for i in at]).items()}
        with torch.inference_mode():
            states = network(**batch).last_hidden_state.float()
        mask = batch["attention_mask"][:, :, None].float()
        means = ((states * mask).sum(dim=1) / mask.sum(dim=1)).cpu()
        found.update(zip(at, means, strict=True))
    return torch.stack([found[row] for row in range(len(tokens))]), cut


def _batches(order: Sequence[int]) -> Iterator[tuple[int, Sequence[int]]]:
    for start in range(0, len(order), _TEXTS_AT_ONCE):
        yield start, order[start : start + _TEXTS_AT_ONCE]
