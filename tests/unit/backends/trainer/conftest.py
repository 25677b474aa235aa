"""Texts that any tiny model can learn, and orders over them."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest

from backends.trainer.api import TrainOrder
from tests.tiny_models import BAD, GOOD, save_encoder

MakeOrder: TypeAlias = Callable[..., TrainOrder]


def planted(count: int, seed: int) -> tuple[list[str], list[int]]:
    rng = np.random.default_rng(seed)
    labels = (rng.permutation(count) % 2).tolist()
    pairs = [rng.choice(GOOD if label else BAD, 2) for label in labels]
    return [f"a {one} and {two} film" for one, two in pairs], labels


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
