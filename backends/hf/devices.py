"""What this PyTorch was built for, which devices it sees, what makes it see others, and in which
format of numbers they compute."""

from __future__ import annotations

import torch

from backends.api import BackendError
from backends.gpus import gpu_maker, unseen
from backends.remedies import pip_install

_INDEX = "https://download.pytorch.org/whl/cu130"
_DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
_OTHERS = "https://pytorch.org/get-started/locally"


def build() -> str:
    """Such as "CUDA 12.8, CPU"."""
    xpu = getattr(torch.version, "xpu", None)
    named = {"CUDA": torch.version.cuda, "ROCm": torch.version.hip, "XPU": xpu}
    kinds = [f"{kind} {version}" for kind, version in named.items() if version]
    if torch.backends.mps.is_built():
        kinds.append("MPS")
    return ", ".join([*kinds, "CPU"])


def usable() -> list[str]:
    """The names that `torch.device` takes here, the best first; AMD's are called cuda too."""
    if not torch.accelerator.is_available():
        return ["cpu"]
    kind = str(torch.accelerator.current_accelerator())
    several = [f"{kind}:{number}" for number in range(torch.accelerator.device_count())]
    return [kind, *several, "cpu"]


def described() -> list[str]:
    """The same devices for people, each once."""
    cuda = [
        f"cuda:{number}: {torch.cuda.get_device_name(number)}"
        for number in range(torch.cuda.device_count())
    ]
    return cuda + [name for name in usable() if ":" in name and not cuda] + ["cpu"]


def change() -> str:
    """What makes it see a GPU; empty where it sees one."""
    if torch.accelerator.is_available():
        return ""
    if build() != "CPU":
        return unseen("PyTorch", build())
    maker = gpu_maker()
    if maker in ("AMD", "another"):
        return f"For the GPU of this machine, install PyTorch as {_OTHERS} says."
    whose = "For the GPU of this machine" if maker != "none" else "For a GPU of NVIDIA"
    # Without the flag, pip would find it installed already.
    command = pip_install("--force-reinstall", "--index-url", _INDEX, "torch>=2.6")
    return f"{whose}, install PyTorch for it: {command}"


def device(wanted: str | None) -> torch.device:
    """The wanted one, or the best that was tried: the others run only where they are named.

    Raises `BackendError` where it is not there.
    """
    there = usable()
    if wanted is None:
        return torch.device(there[0] if there[0] == "cuda" else "cpu")
    if wanted not in there:
        raise BackendError(
            f"there is no device {wanted!r} for PyTorch {torch.__version__} (built for: {build()})",
            f"Use --device {' or '.join(there)}. {change()}".strip(),
        )
    return torch.device(wanted)


def dtype(name: str, where: torch.device) -> torch.dtype:
    """`auto` is bfloat16 where the hardware computes in it, else float32."""
    if name != "auto":
        return _DTYPES[name]
    if where.type == "cuda":
        has_it = torch.cuda.is_bf16_supported()
    elif where.type != "cpu":
        has_it = False  # not tried
    else:
        # torch has no public name for this question. Its own compiler uses this function.
        has_it = bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return torch.bfloat16 if has_it else torch.float32
