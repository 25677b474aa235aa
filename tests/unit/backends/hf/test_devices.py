"""Where a model may run, on a machine with GPUs and on one without."""

from __future__ import annotations

import pytest

from backends.api import BackendError, ModelRef
from backends.hf import backend as hf

torch = pytest.importorskip("torch", reason="pip install 'llm-backend-harness[hf]'")

from backends.hf import devices  # noqa: E402 - it imports torch


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    monkeypatch.setattr(devices, "build", lambda: "CPU")


def with_gpus(monkeypatch: pytest.MonkeyPatch, kind: str, count: int) -> None:
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device(kind))
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: count)


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize("wanted", ["gpu", "cuda", "cuda:7", "mps", "xpu"])
def test_a_device_that_is_not_there_is_refused_before_the_model_is_looked_at(
    monkeypatch: pytest.MonkeyPatch, wanted: str
) -> None:
    monkeypatch.setattr(devices, "gpu_maker", lambda: "NVIDIA")
    model = ModelRef("none", "gguf", "/no/such/file.gguf")
    for opened in (hf.open_tokenizer, hf.open_session):
        with pytest.raises(BackendError, match=f"no device '{wanted}'") as caught:
            opened(model, {"max_model_len": 64, "device": wanted})
        assert "built for: CPU" in str(caught.value)
        assert caught.value.remedy.startswith("Use --device cpu. ")
        assert "--index-url" in caught.value.remedy


def test_the_devices_that_are_there_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with_gpus(monkeypatch, "cuda", 2)
    with pytest.raises(BackendError) as caught:
        devices.device("cuda:7")
    assert caught.value.remedy == "Use --device cuda or cuda:0 or cuda:1 or cpu."
    assert str(devices.device(None)) == "cuda"
    assert str(devices.device("cuda:1")) == "cuda:1"


def test_what_was_not_tried_runs_only_where_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with_gpus(monkeypatch, "mps", 1)
    assert str(devices.device(None)) == "cpu"
    assert str(devices.device("mps")) == "mps"


@pytest.mark.usefixtures("no_gpu")
def test_a_build_for_gpus_that_sees_none_need_not_be_installed_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(devices, "build", lambda: "CUDA 12.8, CPU")
    assert "nvidia-smi" in devices.change()
    assert "--index-url" not in devices.change()


def test_a_check_reports_build_and_devices() -> None:
    found = hf.check()
    if not found.available:
        pytest.skip(found.remedy)
    assert found.build.endswith("CPU")
    assert found.devices[-1] == "cpu"
