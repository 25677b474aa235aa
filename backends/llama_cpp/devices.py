"""What this llama.cpp was built for, which devices it sees, and whether options want others.

llama-cpp-python names none of ggml's functions for that, so they are called in its library.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import llama_cpp as lib

from backends.api import BackendError, Options
from backends.gpus import Maker, gpu_maker, unseen
from backends.llama_cpp.backend import MAIN_GPU, N_GPU_LAYERS, PACKAGES, TENSOR_SPLIT
from backends.remedies import reinstall

_GPU_KINDS = (1, 2)  # of ggml_backend_dev_type: a GPU of its own, one with the processor's memory
_CMAKE: dict[Maker, str] = {
    "NVIDIA": "-DGGML_CUDA=on",
    "AMD": "-DGGML_HIP=on",
    "Apple": "-DGGML_METAL=on",
    "another": "-DGGML_VULKAN=on",
    "none": "-DGGML_CUDA=on",
}


@dataclass(frozen=True, slots=True)
class Device:
    """`name` is ggml's, such as `CUDA0`; `title` the maker's."""

    name: str
    title: str
    total_bytes: int
    is_gpu: bool

    def __str__(self) -> str:
        size = f" ({self.total_bytes / 2**30:.0f} GiB)" if self.is_gpu and self.total_bytes else ""
        return f"{self.name}: {self.title}{size}"


def devices() -> list[Device]:
    ggml = _ggml()
    count = ggml.ggml_backend_dev_count()
    return [_device(ggml, ggml.ggml_backend_dev_get(index)) for index in range(count)]


def gpus() -> list[Device]:
    """In the order that `main_gpu` and `tensor_split` count them in."""
    return [device for device in devices() if device.is_gpu]


def build() -> str:
    """The names of what computes in it, such as "CUDA, CPU"."""
    ggml = _ggml()
    every = [ggml.ggml_backend_reg_get(i) for i in range(ggml.ggml_backend_reg_count())]
    return ", ".join(_text(ggml.ggml_backend_reg_name(one)) for one in every)


def change() -> str:
    """What makes it see a GPU; empty where it sees one."""
    if lib.llama_supports_gpu_offload():
        return ""
    built = build()
    if built != "CPU":
        return unseen("llama.cpp", built)
    maker = gpu_maker()
    whose = "For a GPU of NVIDIA" if maker == "none" else "For the GPU of this machine"
    command = f"CMAKE_ARGS={_CMAKE[maker]} {reinstall(PACKAGES)}"
    return f"{whose}, build llama.cpp again: {command}"


def check_options(options: Options) -> None:
    """Raises `BackendError` for options that want a GPU that this llama.cpp does not see."""
    wanted = [one for one in (MAIN_GPU, TENSOR_SPLIT) if one.given(options) is not None]
    if N_GPU_LAYERS.given(options):  # 0 wants none
        wanted.insert(0, N_GPU_LAYERS)
    if wanted and not lib.llama_supports_gpu_offload():
        given = ", ".join(f"{option.name} is {option.given(options)}" for option in wanted)
        raise BackendError(
            f"{given}, and this llama.cpp sees no GPU (built for: {build()})",
            f"Leave {'it' if len(wanted) == 1 else 'them'} out, to compute on the CPU. {change()}",
        )
    main, split = MAIN_GPU.given(options), tensor_split(options)
    if main is not None and split:
        raise BackendError(
            "main_gpu puts the whole model on one GPU, and tensor_split divides it over several",
            "Give one of the two.",
        )
    seen = gpus()
    listed = ", ".join(map(str, seen))
    if main is not None and main >= len(seen):
        raise BackendError(
            f"main_gpu is {main}, and llama.cpp sees {len(seen)} GPUs: {listed}",
            f"Use a whole number from 0 to {len(seen) - 1}.",
        )
    if len(split) > len(seen):
        raise BackendError(
            f"tensor_split has {len(split)} shares, and llama.cpp sees {len(seen)} GPUs: {listed}",
            f"Give {len(seen)} shares or fewer.",
        )


def tensor_split(options: Options) -> list[float]:
    """The share of each GPU; none where the option is not given."""
    text = TENSOR_SPLIT.given(options)
    return [float(share) for share in text.split(",")] if text else []


def used(options: Options) -> Sequence[Device]:
    """The GPUs that hold a part of the model."""
    main, split = MAIN_GPU.given(options), tensor_split(options)
    if main is not None:
        return [gpus()[main]]
    return [gpu for i, gpu in enumerate(gpus()) if not split or any(split[i : i + 1])]


def _ggml() -> Any:
    from llama_cpp._ggml import libggml

    handle, size = ctypes.c_void_p, ctypes.c_size_t
    for name, given, result in (
        ("ggml_backend_reg_count", [], size),
        ("ggml_backend_reg_get", [size], handle),
        ("ggml_backend_reg_name", [handle], ctypes.c_char_p),
        ("ggml_backend_dev_count", [], size),
        ("ggml_backend_dev_get", [size], handle),
        ("ggml_backend_dev_name", [handle], ctypes.c_char_p),
        ("ggml_backend_dev_description", [handle], ctypes.c_char_p),
        ("ggml_backend_dev_type", [handle], ctypes.c_int),
        ("ggml_backend_dev_memory", [handle, ctypes.POINTER(size), ctypes.POINTER(size)], None),
    ):
        function = getattr(libggml, name)
        function.argtypes, function.restype = given, result
    return libggml


def _device(ggml: Any, handle: Any) -> Device:
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    ggml.ggml_backend_dev_memory(handle, ctypes.byref(free), ctypes.byref(total))
    return Device(
        name=_text(ggml.ggml_backend_dev_name(handle)),
        title=_text(ggml.ggml_backend_dev_description(handle)),
        total_bytes=total.value,
        is_gpu=ggml.ggml_backend_dev_type(handle) in _GPU_KINDS,
    )


def _text(data: bytes) -> str:
    return data.decode("utf-8", errors="replace").strip()
