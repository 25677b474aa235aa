"""Where PyTorch computes here, and in which format of numbers."""

from __future__ import annotations

import torch

from backends.api import BackendError

_DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


def find_device(wanted: str | None) -> torch.device:
    gpus = [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    usable = [*(["cuda"] if gpus else []), *gpus, "cpu"]  # the best first
    if wanted is not None and wanted not in usable:
        raise BackendError(
            f"there is no device {wanted!r} for PyTorch here",
            f"Use --device {' or '.join(usable)}.",
        )
    return torch.device(wanted or usable[0])


def find_dtype(name: str, device: torch.device) -> torch.dtype:
    """`auto` is bfloat16 where the hardware computes in it, else float32."""
    if name != "auto":
        return _DTYPES[name]
    if device.type == "cuda":
        has_it = torch.cuda.is_bf16_supported()
    else:
        # torch has no public name for this question. Its own compiler uses this function.
        has_it = bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return torch.bfloat16 if has_it else torch.float32
