"""Any vision model of transformers: ViT, DINOv2, CLIP, SigLIP, and convolutional ones."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from PIL import Image

from backends.api import BackendError, ModelRef
from backends.embedder.api import LAST, EmbedderOptions, Pooling, checked_layers
from backends.hf.folder import check_folder, check_weights, weights_sha256
from backends.hf.loading import check_loaded, load_untrusted
from backends.hf.weights import given_folder
from backends.rules import first_line


class VisionModel:
    """The model in a folder, or in the hub's cache; see `backends.embedder.backend`."""

    def __init__(
        self, model: ModelRef, options: EmbedderOptions, device: torch.device, dtype: torch.dtype
    ) -> None:
        folder = given_folder(model)
        config = check_folder(folder, model.name, trusted=False)
        check_weights(folder, model.name, config)
        self.model = model.name
        # The hub's cache calls a snapshot by its commit.
        self.revision = folder.name if folder.parent.name == "snapshots" else ""
        self.engine = f"transformers {transformers.__version__}"
        self.weights_sha256 = weights_sha256(folder)
        self._device, self._dtype = device, dtype
        self._tower = _load(folder, model.name, options, dtype).to(device).eval()
        self._processor = _processor(folder, model.name, options.image_size)
        blocks = int(getattr(self._tower.config, "num_hidden_layers", 0) or _stages(self._tower))
        self.layers = checked_layers(options.layers, blocks, model.name)
        self._given = _how_to_call(self._tower, needs_layers=self.layers != (LAST,))
        self.preprocessing = _described(self._processor)
        self._prefix = self._prefix_tokens()
        self.pooling = self._checked_pooling(options.pooling)

    def prepare(self, image: Image.Image) -> Any:
        made = self._processor(images=image, return_tensors="pt")
        return made["pixel_values"][0]

    def vectors(self, images: list[Any]) -> Any:
        """Float32 (n, d) on the CPU."""
        if len({tuple(image.shape) for image in images}) > 1:  # some processors keep the shape
            return torch.cat([self.vectors([image]) for image in images])
        out = self._forward(torch.stack(images))
        parts = [self._pooled(out, layer) for layer in self.layers]
        return torch.cat(parts, dim=1).float().cpu()

    def _forward(self, pixels: Any) -> Any:
        with torch.inference_mode():
            return self._tower(pixel_values=pixels.to(self._device, self._dtype), **self._given)

    def _pooled(self, out: Any, layer: str) -> Any:
        if self.pooling == "pooler":
            return out.pooler_output.flatten(1)
        states = out.last_hidden_state if layer == LAST else out.hidden_states[int(layer)]
        if states.ndim == 4:
            return states.float().mean(dim=(2, 3))
        return states[:, 0] if self.pooling == "cls" else _mean(states, self._prefix)

    def _prefix_tokens(self) -> int | None:
        """How many tokens, a class token among them, stand before those of the patches; `None`
        where the model has a plane of channels and no tokens."""
        blank = Image.new("RGB", (64, 64))
        pixels = self.prepare(blank)[None]
        states: Any = self._forward(pixels).last_hidden_state
        if states.ndim != 3:
            return None
        patch = getattr(self._tower.config, "patch_size", None)
        if not isinstance(patch, int):
            return 0
        patches = int(pixels.shape[2]) // patch * (int(pixels.shape[3]) // patch)
        # Models with a hierarchy have fewer tokens than patches, and none before them.
        return max(0, int(states.shape[1]) - patches)

    def _checked_pooling(self, wanted: Pooling | None) -> Pooling:
        """The class token where the model has one, else the mean, unless another is wanted."""
        if wanted is None:
            return "cls" if self._prefix else "mean"
        if wanted == "cls" and not self._prefix:
            raise BackendError(f"{self.model} has no class token", "Use --pooling mean.")
        if wanted == "pooler":
            blank = self._forward(self.prepare(Image.new("RGB", (64, 64)))[None])
            if getattr(blank, "pooler_output", None) is None:
                raise BackendError(f"{self.model} has no pooler", "Use --pooling mean.")
            if self.layers != (LAST,):
                raise BackendError(
                    f"the pooler of {self.model} stands behind the last layer",
                    "Use --pooling cls or mean with --layer.",
                )
        return wanted


def _mean(states: Any, prefix: int | None) -> Any:
    return states[:, prefix or 0 :].float().mean(dim=1)


def _load(folder: Path, name: str, options: EmbedderOptions, dtype: torch.dtype) -> Any:
    """The part of the model that sees."""
    remedy = (
        "Give a folder with config.json, preprocessor_config.json and safetensors, or a model that "
        "is in the hub's cache on this machine."
    )
    model, info = load_untrusted(transformers.AutoModel, folder, name, remedy, dtype=dtype)
    # Many are published without the pooler that their class has: at random then, and unused.
    wants_pooler = options.pooling == "pooler"
    used = [key for key in info["missing_keys"] if wants_pooler or not _of_pooler(key)]
    check_loaded(model, {**info, "missing_keys": used}, name)
    tower = getattr(model, "vision_model", model)
    if "pixel_values" not in inspect.signature(tower.forward).parameters:
        raise BackendError(
            f"{name} is a {model.config.model_type} model, which takes no images",
            "Give a vision model: ViT, DINOv2, CLIP, SigLIP or the like.",
        )
    return tower


def _of_pooler(key: str) -> bool:
    return "pooler" in key.split(".")


def _processor(folder: Path, name: str, image_size: int | None) -> Any:
    try:
        plain: Any = transformers.AutoImageProcessor
        processor = plain.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, use_fast=False
        )
    except Exception as error:  # whatever a damaged file makes transformers raise
        raise BackendError(
            f"{name} has no usable preprocessor_config.json: {first_line(error)}",
            "Fetch it with the model: it says how images are resized and scaled.",
        ) from error
    if image_size:
        _resize_to(processor, image_size)
    return processor


def _resize_to(processor: Any, size: int) -> None:
    """Both sides, whatever form the processor has its sizes in."""
    square = {"height": size, "width": size}
    shape = processor.size
    processor.size = {"shortest_edge": size} if "shortest_edge" in dict(shape) else square
    if getattr(processor, "do_center_crop", False):
        processor.crop_size = square


def _how_to_call(tower: Any, needs_layers: bool) -> Mapping[str, Any]:
    known = inspect.signature(tower.forward).parameters
    given: dict[str, Any] = {"output_hidden_states": True} if needs_layers else {}
    if "interpolate_pos_encoding" in known:  # for images of another size than it was trained on
        given["interpolate_pos_encoding"] = True
    return given


def _stages(tower: Any) -> int:
    """Of a convolutional model, whose hidden states are one for each stage."""
    return len(getattr(tower.config, "depths", ()) or getattr(tower.config, "hidden_sizes", ()))


def _described(processor: Any) -> str:
    """The processor's settings, those that are in use, in a fixed order."""
    wanted = ("size", "crop_size", "resample", "rescale_factor", "image_mean", "image_std")
    settings = processor.to_dict()
    off = {"crop_size": "do_center_crop", "resample": "do_resize", "size": "do_resize"}
    parts = [
        f"{key} {settings[key]}"
        for key in wanted
        if settings.get(key) is not None and settings.get(off.get(key, ""), True)
    ]
    return f"{type(processor).__name__}: {'; '.join(parts)}"
