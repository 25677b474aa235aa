from __future__ import annotations

import importlib.machinery
import importlib.util
from pathlib import Path
from typing import Any

import pytest

from backends.hf import placement
from backends.hf.placement import is_on_gpu

CPU = "__version__ = '2.13.0+cpu'\ncuda: Optional[str] = None\nhip: Optional[str] = None\n"
CUDA = CPU.replace("cuda: Optional[str] = None", "cuda: Optional[str] = '13.0'")
ROCM = CPU.replace("hip: Optional[str] = None", "hip: Optional[str] = '6.4'")


def installed(folder: Path, monkeypatch: pytest.MonkeyPatch, version: str | None) -> None:
    """torch, with this version.py."""
    if version is not None:
        (folder / "version.py").write_text(version)
    spec = importlib.machinery.ModuleSpec("torch", None, origin=str(folder / "__init__.py"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: spec)


@pytest.mark.parametrize(
    ("device", "answer"),
    [("cpu", False), ("cuda", True), ("cuda:1", True), ("mps", None), ("xpu:0", None)],
)
def test_a_device_that_is_named_is_taken(device: str, answer: bool | None) -> None:
    assert is_on_gpu({"device": device}) is answer


@pytest.mark.parametrize(
    ("version", "has_gpu", "hidden", "answer"),
    [
        (CPU, True, None, False),
        (CUDA, True, None, True),
        (CUDA, False, None, False),
        (CUDA, True, "", False),
        (CUDA, True, "-1", False),
        (CUDA, True, "none", False),
        (CUDA, True, "GPU-8932f937", True),
        (CUDA, True, "1,0", True),
        (ROCM, True, None, None),
        (None, True, None, None),
    ],
)
def test_else_a_gpu_is_taken_that_torch_was_built_for(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    version: str | None,
    has_gpu: bool,
    hidden: str | None,
    answer: bool | None,
) -> None:
    installed(tmp_path, monkeypatch, version)
    monkeypatch.setattr(placement, "has_nvidia", lambda: has_gpu)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if hidden is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    assert is_on_gpu({}) is answer


def test_without_torch_it_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    nothing: Any = None
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: nothing)
    assert is_on_gpu({}) is None


def test_the_torch_that_is_installed_says_the_same() -> None:
    torch = pytest.importorskip("torch")
    from backends.hf.devices import device

    if not torch.version.hip:
        assert is_on_gpu({}) is (device(None).type == "cuda")
