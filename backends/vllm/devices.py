"""What this vLLM was built for, and which devices it sees."""

from __future__ import annotations

import torch
from vllm.platforms import current_platform

from backends.gpus import gpu_maker
from backends.remedies import install_environment

_OTHERS = "https://docs.vllm.ai/en/latest/getting_started/installation"


def has_device() -> bool:
    """A build for GPUs on a machine without one has a platform without a name."""
    return bool(current_platform.device_type)


def build() -> str:
    """Such as "CUDA 12.8" or "CPU": one kind, other than PyTorch's."""
    if current_platform.is_cpu():
        return "CPU"
    versions = {"CUDA": torch.version.cuda, "ROCm": torch.version.hip}
    named = [f"{kind} {version}" for kind, version in versions.items() if version]
    return named[0] if named else str(current_platform.device_name)


def names() -> list[str]:
    if current_platform.is_cpu():
        return ["cpu"]
    # Of PyTorch the number alone, which takes no memory of the GPUs.
    count = torch.accelerator.device_count()
    return [f"{i}: {current_platform.get_device_name(i)}" for i in range(count)]


def change() -> str:
    """What makes it see a GPU; empty where it sees one."""
    if not current_platform.is_cpu():
        return ""
    command, maker = install_environment("vllm"), gpu_maker()
    if maker == "NVIDIA":
        return f"For the GPU of this machine, install vLLM for CUDA: {command}"
    if maker in ("AMD", "another"):
        return f"For the GPU of this machine, install vLLM as {_OTHERS} says, and name its Python."
    return f"On a machine with a GPU of NVIDIA and its driver, this installs it for CUDA: {command}"
