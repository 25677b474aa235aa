from __future__ import annotations

import platform
from pathlib import Path

import pytest

from backends.gpus import gpu_maker


@pytest.mark.parametrize(
    ("files", "maker"),
    [
        ((), "none"),
        (("dev/dri/renderD128",), "another"),
        (("dev/dri/renderD128", "dev/kfd"), "AMD"),
        (("dev/dri/renderD128", "dev/nvidiactl"), "NVIDIA"),
        (("usr/lib/wsl/lib/libcuda.so.1",), "NVIDIA"),
    ],
)
def test_a_driver_tells_whose_gpu_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: tuple[str, ...], maker: str
) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    for file in files:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    assert gpu_maker(tmp_path) == maker
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    monkeypatch.setattr(platform, "machine", lambda: "arm64")
    assert gpu_maker(tmp_path) == "Apple"
