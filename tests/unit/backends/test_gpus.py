from __future__ import annotations

import platform
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from backends import gpus
from backends.gpus import gpu_maker, has_nvidia


@pytest.fixture(autouse=True)
def nothing_remembered() -> Iterator[None]:
    has_nvidia.cache_clear()
    yield
    has_nvidia.cache_clear()


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


@pytest.mark.parametrize(
    ("count", "is_there"), [(2, True), (0, False), (RuntimeError("no driver"), False)]
)
def test_a_gpu_is_there_if_the_driver_lists_it(
    monkeypatch: pytest.MonkeyPatch, count: int | Exception, is_there: bool
) -> None:
    def opened() -> None:
        if isinstance(count, Exception):
            raise count

    closed: list[bool] = []
    library = SimpleNamespace(
        NVMLError=RuntimeError,
        nvmlInit=opened,
        nvmlDeviceGetCount=lambda: count,
        nvmlShutdown=lambda: closed.append(True),
    )
    monkeypatch.setitem(sys.modules, "pynvml", library)
    assert has_nvidia() is is_there
    assert len(closed) == (not isinstance(count, Exception))


def test_without_its_library_the_files_of_the_driver_say_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    nothing: Any = None  # no module can be imported by this name
    monkeypatch.setitem(sys.modules, "pynvml", nothing)
    for maker in ("NVIDIA", "none"):
        monkeypatch.setattr(gpus, "gpu_maker", lambda maker=maker: maker)
        has_nvidia.cache_clear()
        assert has_nvidia() is (maker == "NVIDIA")
