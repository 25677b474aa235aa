"""The default embedder: equal to its network as published, whatever computes it and the batch."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from backends.api import BackendError
from backends.embedder.api import EmbedderOptions
from backends.embedder.efficientnet import EfficientNet, _weights


@pytest.fixture(scope="module")
def pictures() -> list[Any]:
    rng = np.random.default_rng(0)
    return [
        Image.fromarray(rng.integers(0, 256, size=(40, 40, 3), dtype=np.uint8)) for _ in range(3)
    ]


def opened(**options: Any) -> EfficientNet:
    return EfficientNet(EmbedderOptions(**options), torch.device("cpu"), torch.float32)


@pytest.fixture(params=["onnxruntime", "torch"])
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "torch":
        monkeypatch.setitem(sys.modules, "onnxruntime", None)
        monkeypatch.delitem(sys.modules, "backends.embedder.onnx_network", raising=False)
    return str(request.param)


def test_the_vectors_are_those_of_the_network_as_published(
    pictures: list[Any], engine: str
) -> None:
    from efficientnet_lite_pytorch import EfficientNet as Network

    model = opened()
    assert model.engine.startswith(engine)
    network = Network.from_name("efficientnet-lite0", image_size=224)
    network.load_state_dict(_weights())
    prepared = [model.prepare(picture) for picture in pictures]
    with torch.inference_mode():
        plain = network.eval().extract_features(torch.stack(prepared)).mean(dim=(2, 3)).numpy()
        together = model.vectors(prepared).numpy()
        alone = torch.cat([model.vectors([one]) for one in prepared]).numpy()
    assert together.shape == (3, 1280)
    np.testing.assert_allclose(together, plain, atol=1e-4)
    np.testing.assert_allclose(together, alone, atol=1e-4)


def test_both_engines_agree_on_every_layer_and_at_an_odd_size(
    pictures: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    every = (*map(str, range(17)), "last")
    by_onnx = opened(layers=every, image_size=101)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.delitem(sys.modules, "backends.embedder.onnx_network")
    by_torch = opened(layers=every, image_size=101)
    assert [one.engine.split()[0] for one in (by_onnx, by_torch)] == ["onnxruntime", "torch"]
    prepared = [by_onnx.prepare(picture) for picture in pictures]
    with torch.inference_mode():
        found = by_onnx.vectors(prepared)
        np.testing.assert_allclose(found, by_torch.vectors(prepared), atol=1e-4)
    assert found.std() > 0.1


def test_bfloat16_is_computed_by_torch() -> None:
    half = EfficientNet(EmbedderOptions(), torch.device("cpu"), torch.bfloat16)
    assert half.engine.startswith("torch")


def test_layers_are_joined_in_the_order_in_which_they_are_named(pictures: list[Any]) -> None:
    one, two, both = (opened(layers=layers) for layers in (("10",), ("14",), ("14", "10")))
    prepared = [one.prepare(pictures[0])]
    with torch.inference_mode():
        joined = torch.cat([two.vectors(prepared), one.vectors(prepared)], dim=1)
        np.testing.assert_array_equal(both.vectors(prepared), joined)


def test_what_it_does_not_have_is_refused() -> None:
    with pytest.raises(BackendError, match="has no cls vector"):
        opened(pooling="cls")
    with pytest.raises(BackendError, match="has 16 blocks, and no layer 17"):
        opened(layers=("17",))
