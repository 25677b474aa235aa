"""Vision models of transformers, tiny and with random weights: what is taken of them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image

from backends.api import BackendError, ModelRef
from backends.embedder.api import EmbedderOptions
from backends.embedder.backend import TorchEmbedder

SIZE, PATCH, WIDTH = 32, 8, 16
SHAPE: dict[str, Any] = {
    "hidden_size": WIDTH,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "image_size": SIZE,
    "patch_size": PATCH,
}


def save(folder: Path, model: Any, processor: Any) -> Path:
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A tiny model of each family."""
    torch.manual_seed(0)
    t = transformers
    place = tmp_path_factory.mktemp("vision")
    square = {"height": SIZE, "width": SIZE}
    plain = t.ViTImageProcessorPil(size=square)
    tower = {**SHAPE, "projection_dim": 8}
    words = {
        "hidden_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 8,
        "vocab_size": 50,
    }
    clip = t.CLIPConfig(text_config=words, vision_config=tower, projection_dim=8)
    siglip = t.SiglipConfig(text_config=words, vision_config=SHAPE)
    made: dict[str, Any] = {
        "vit": t.ViTModel(t.ViTConfig(**SHAPE)),
        "dinov2": t.Dinov2Model(t.Dinov2Config(**{**SHAPE, "mlp_ratio": 2})),
        "clip": t.CLIPModel(clip),
        "siglip": t.SiglipModel(siglip),
        "convnext": t.ConvNextModel(
            t.ConvNextConfig(hidden_sizes=[8, 16], depths=[1, 1], num_stages=2, patch_size=4)
        ),
    }
    return {name: save(place / name, model.eval(), plain) for name, model in made.items()}


@pytest.fixture
def images(tmp_path: Path) -> list[str]:
    rng = np.random.default_rng(0)
    paths = []
    for number in range(5):
        pixels = rng.integers(0, 256, size=(20 + number, 30, 3), dtype=np.uint8)
        path = tmp_path / f"{number}.png"
        Image.fromarray(pixels).save(path)
        paths.append(str(path))
    return paths


def embedder(folder: Path, **options: Any) -> TorchEmbedder:
    reference = ModelRef("tiny", "hf", str(folder))
    return TorchEmbedder(reference, EmbedderOptions(threads=1, device="cpu", **options))


def vectors(found: TorchEmbedder, images: list[str]) -> Any:
    every = [one for batch in found.embed(images) for one in batch]
    return np.array([np.frombuffer(one.vector or b"", np.float32) for one in every])


def pixels(images: list[str]) -> Any:
    processor = transformers.ViTImageProcessorPil(size={"height": SIZE, "width": SIZE})
    opened = [Image.open(path).convert("RGB") for path in images]
    return processor(images=opened, return_tensors="pt")["pixel_values"]


TAKEN: dict[str, tuple[dict[str, Any], Callable[[Any], Any]]] = {
    "cls": ({}, lambda out: out.last_hidden_state[:, 0]),
    "mean": ({"pooling": "mean"}, lambda out: out.last_hidden_state[:, 1:].mean(dim=1)),
    "pooler": ({"pooling": "pooler"}, lambda out: out.pooler_output),
    "layer": ({"layers": ("2",)}, lambda out: out.hidden_states[2][:, 0]),
    "layers": (
        {"layers": ("1", "last"), "pooling": "mean"},
        lambda out: torch.cat(
            [out.hidden_states[1][:, 1:].mean(dim=1), out.last_hidden_state[:, 1:].mean(dim=1)], 1
        ),
    ),
}


@pytest.mark.parametrize("family", ["vit", "dinov2", "clip"])
@pytest.mark.parametrize("what", TAKEN)
def test_the_vectors_are_those_of_a_plain_call_of_the_model(
    folders: dict[str, Path], images: list[str], family: str, what: str
) -> None:
    options, take = TAKEN[what]
    model: Any = transformers.AutoModel.from_pretrained(folders[family])
    model.eval()
    with torch.inference_mode():
        tower = getattr(model, "vision_model", model)
        out = tower(pixel_values=pixels(images), output_hidden_states=True)
        expected = take(out).numpy()
    found = embedder(folders[family], **options)
    assert found.info.dimensions == expected.shape[1]
    np.testing.assert_allclose(vectors(found, images), expected, atol=1e-5)


@pytest.mark.parametrize("family", ["vit", "dinov2", "clip", "siglip", "convnext"])
def test_the_size_of_the_batch_changes_nothing(
    folders: dict[str, Path], images: list[str], family: str
) -> None:
    one, four = (vectors(embedder(folders[family], batch=n), images) for n in (1, 4))
    np.testing.assert_allclose(one, four, atol=1e-4)
    assert np.ptp(one, axis=0).max() > 1e-3  # not all images are one


def test_without_a_class_token_the_mean_is_taken(folders: dict[str, Path]) -> None:
    assert embedder(folders["siglip"]).info.pooling == "mean"
    assert embedder(folders["convnext"]).info.pooling == "mean"
    with pytest.raises(BackendError, match="has no class token"):
        embedder(folders["siglip"], pooling="cls")


def test_images_of_another_size_go_through(folders: dict[str, Path], images: list[str]) -> None:
    for family in ("vit", "dinov2", "clip", "siglip"):
        found = embedder(folders[family], image_size=2 * SIZE)
        assert str(2 * SIZE) in found.info.preprocessing
        assert np.isfinite(vectors(found, images)).all()


def test_what_a_model_does_not_have_is_refused(folders: dict[str, Path]) -> None:
    with pytest.raises(BackendError, match="has 3 blocks, and no layer 4"):
        embedder(folders["vit"], layers=("4",))
    with pytest.raises(BackendError, match="stands behind the last layer"):
        embedder(folders["vit"], layers=("1",), pooling="pooler")


def test_weights_that_are_not_there_are_not_made_up(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "half"
    shutil.copytree(folders["vit"], folder)
    weights = load_file(folder / "model.safetensors")
    for key in [key for key in weights if "layer.1." in key or "layers.1." in key]:
        del weights[key]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BackendError, match="lacks weights"):
        embedder(folder)


def test_a_pooler_that_was_not_published_is_missed_only_where_it_is_used(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "no-pooler"
    shutil.copytree(folders["vit"], folder)
    weights = load_file(folder / "model.safetensors")
    for key in [key for key in weights if key.startswith("pooler.")]:
        del weights[key]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    assert embedder(folder).info.pooling == "cls"
    with pytest.raises(BackendError, match="lacks weights"):
        embedder(folder, pooling="pooler")


def test_a_language_model_takes_no_images(tmp_path: Path) -> None:
    config = transformers.LlamaConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    transformers.LlamaModel(config).save_pretrained(tmp_path / "words")
    with pytest.raises(BackendError, match="takes no images"):
        embedder(tmp_path / "words")
