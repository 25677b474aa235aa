"""Whose GPU this machine has, by the files of its driver: for what a remedy recommends.

An engine that was built without support for a GPU cannot say whether there is one.
"""

from __future__ import annotations

import platform
from functools import cache
from pathlib import Path
from typing import Literal, TypeAlias

Maker: TypeAlias = Literal["NVIDIA", "AMD", "Apple", "another", "none"]

_FILES: tuple[tuple[str, Maker], ...] = (
    ("dev/nvidiactl", "NVIDIA"),
    ("proc/driver/nvidia", "NVIDIA"),
    ("usr/lib/wsl/lib/libcuda.so.1", "NVIDIA"),  # Linux within Windows has no such devices
    ("dev/kfd", "AMD"),
    ("dev/dri/renderD128", "another"),
)


def gpu_maker(root: Path = Path("/")) -> Maker:
    """The maker of the first that is found."""
    if platform.system() == "Darwin":
        return "Apple" if platform.machine() == "arm64" else "none"
    return next((maker for file, maker in _FILES if (root / file).exists()), "none")


@cache
def has_nvidia() -> bool:
    """Whether NVIDIA's driver lists a GPU: its files may be there without one, as in a container.
    Without `pynvml`, whether the files are there."""
    try:
        import pynvml
    except ImportError:
        return gpu_maker() == "NVIDIA"
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return False
    try:
        return int(pynvml.nvmlDeviceGetCount()) > 0
    except pynvml.NVMLError:
        return False
    finally:
        pynvml.nvmlShutdown()


def unseen(engine: str, build: str) -> str:
    """What to do where an engine that was built for a GPU sees none."""
    return (
        f"{engine} was built for {build} and sees no GPU: check that the driver's tool "
        "(nvidia-smi, rocm-smi) lists one, and that CUDA_VISIBLE_DEVICES does not hide it."
    )
