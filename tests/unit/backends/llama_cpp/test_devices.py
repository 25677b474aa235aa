"""Options that want GPUs, on a machine with some and on one without."""

from __future__ import annotations

from typing import Any

import pytest

from backends.api import BackendError, ModelRef
from backends.llama_cpp import backend as llama_cpp

pytest.importorskip("llama_cpp", reason="needs llama-cpp-python")

from backends.llama_cpp import devices

GPUS = [devices.Device(f"CUDA{i}", f"Card {i}", 8 * 2**30, is_gpu=True) for i in range(2)]
CPU = devices.Device("CPU", "Processor", 0, is_gpu=False)


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llama_cpp.llama_supports_gpu_offload", lambda: True)
    monkeypatch.setattr(devices, "devices", lambda: [*GPUS, CPU])


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llama_cpp.llama_supports_gpu_offload", lambda: False)
    monkeypatch.setattr(devices, "build", lambda: "CPU")


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize(
    "options",
    [
        {"n_gpu_layers": 99},
        {"n_gpu_layers": -1},
        {"main_gpu": 0},
        {"n_gpu_layers": 1, "tensor_split": "3,1"},
    ],
)
def test_a_gpu_that_is_not_there_is_refused_before_the_model_is_looked_at(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    monkeypatch.setattr(devices, "gpu_maker", lambda: "another")
    model = ModelRef("none", "gguf", "/no/such/file.gguf")
    for opened in (llama_cpp.open_tokenizer, llama_cpp.open_session):
        with pytest.raises(BackendError, match="sees no GPU") as caught:
            opened(model, {"max_model_len": 64, **options})
        assert all(f"{name} is {value}" in str(caught.value) for name, value in options.items())
        assert "CMAKE_ARGS=-DGGML_VULKAN=on " in caught.value.remedy


@pytest.mark.usefixtures("no_gpu")
def test_no_layers_and_nothing_given_want_no_gpu() -> None:
    devices.check_options({})
    devices.check_options({"n_gpu_layers": 0})


@pytest.mark.usefixtures("no_gpu")
def test_a_build_for_gpus_that_sees_none_need_not_be_built_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(devices, "build", lambda: "CUDA, CPU")
    assert "nvidia-smi" in devices.change()
    assert "CMAKE_ARGS" not in devices.change()


@pytest.mark.usefixtures("two_gpus")
@pytest.mark.parametrize(
    ("options", "message", "remedy"),
    [
        ({"main_gpu": 2}, "main_gpu is 2, and llama.cpp sees 2 GPUs: CUDA0: Card 0", "0 to 1"),
        ({"tensor_split": "1,1,1"}, "3 shares, and llama.cpp sees 2 GPUs", "2 shares or fewer"),
        ({"main_gpu": 0, "tensor_split": "1,1"}, "main_gpu puts the whole model", "one of the two"),
        ({"tensor_split": "3;1"}, "tensor_split is '3;1'", "such as 3,1"),
        ({"tensor_split": "0,0.0"}, "tensor_split is '0,0.0'", "not all 0"),
    ],
)
def test_gpus_that_are_not_there_are_refused_with_those_that_are(
    options: dict[str, Any], message: str, remedy: str
) -> None:
    with pytest.raises(BackendError) as caught:
        devices.check_options(options)
    assert message in str(caught.value)
    assert remedy in caught.value.remedy


@pytest.mark.usefixtures("two_gpus")
@pytest.mark.parametrize(
    ("options", "used"),
    [
        ({}, ["Card 0", "Card 1"]),
        ({"main_gpu": 1}, ["Card 1"]),
        ({"tensor_split": "3,1"}, ["Card 0", "Card 1"]),
        ({"tensor_split": "0,1"}, ["Card 1"]),
        ({"tensor_split": "1"}, ["Card 0"]),
    ],
)
def test_the_gpus_that_hold_the_model_are_named(options: dict[str, Any], used: list[str]) -> None:
    devices.check_options(options)
    assert [device.title for device in devices.used(options)] == used


def test_what_llama_cpp_says_of_itself_can_be_read() -> None:
    found = llama_cpp.check()
    assert "CPU" in found.build
    assert any(device.startswith("CPU: ") for device in found.devices)


def test_options_reach_llama_cpp() -> None:
    lib = pytest.importorskip("llama_cpp")
    from backends.llama_cpp import context

    params = context._model_params({"main_gpu": 1, "no_mmap": True, "n_gpu_layers": 7})
    assert (params.split_mode, params.main_gpu) == (lib.LLAMA_SPLIT_MODE_NONE, 1)
    assert (params.load_mode, params.n_gpu_layers) == (lib.LLAMA_LOAD_MODE_NONE, 7)
    params = context._model_params({"tensor_split": "3,0.5"})
    assert [params.tensor_split[i] for i in range(3)] == [3, 0.5, 0]


@pytest.mark.parametrize(
    ("options", "sizes"),
    [
        ({}, (512, 512)),
        ({"n_batch": 2048}, (2048, 512)),
        ({"n_batch": 128}, (128, 128)),
        ({"n_ubatch": 1024}, (1024, 1024)),
        ({"n_batch": 256, "n_ubatch": 64}, (256, 64)),
    ],
)
def test_sizes_of_calls_and_pieces_go_together(
    options: dict[str, int], sizes: tuple[int, int]
) -> None:
    from backends.llama_cpp.context import batch_tokens

    assert batch_tokens(options) == sizes


def test_a_piece_that_is_larger_than_its_call_is_refused() -> None:
    from backends.llama_cpp.context import batch_tokens

    with pytest.raises(BackendError, match="n_ubatch is 256 and n_batch 128") as caught:
        batch_tokens({"n_batch": 128, "n_ubatch": 256})
    assert "128 or less" in caught.value.remedy
    with pytest.raises(BackendError, match="n_ubatch is 256 and n_batch 128"):
        llama_cpp.open_tokenizer(
            ModelRef("none", "gguf", "/no/such/file.gguf"), {"n_batch": 128, "n_ubatch": 256}
        )
    with pytest.raises(BackendError, match="n_batch is 1") as caught:
        batch_tokens({"n_batch": 1})
    assert "from 32 to 65536" in caught.value.remedy
