from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import pynvml
import pytest

from harness.machine.memory import MemoryPeak, MemoryProbe

BLOCK_MIB = 64
MIB = 2**20

# Says when it is ready, then lives until its standard input ends.
IDLE = "import sys; print('ready', flush=True); sys.stdin.read()"
HOLDER = f"block = b'x' * ({BLOCK_MIB} << 20); {IDLE}"
SPENDER = f"block = b'x' * ({BLOCK_MIB} << 20); del block; {IDLE}"
PARENT = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]], check=True)"


@contextmanager
def child(program: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", program, *arguments]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process


def wait_until(condition: Callable[[], bool]) -> None:
    give_up = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.005)


def peak_of(program: str, *arguments: str) -> float:
    with child(program, *arguments) as process, MemoryProbe(process.pid) as probe:
        pass
    assert probe.peak.rss_mib is not None
    return probe.peak.rss_mib


@pytest.fixture
def one_gpu(monkeypatch: pytest.MonkeyPatch) -> list[SimpleNamespace]:
    """What computes on it; NVML is a stand-in."""
    using: list[SimpleNamespace] = []
    monkeypatch.setattr(pynvml, "nvmlInit", lambda: None)
    monkeypatch.setattr(pynvml, "nvmlShutdown", lambda: None)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetCount", lambda: 1)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByIndex", lambda index: index)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetComputeRunningProcesses", lambda handle: using)
    return using


@pytest.fixture
def no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise pynvml.NVMLError_LibraryNotFound

    monkeypatch.setattr(pynvml, "nvmlInit", fail)


def test_a_block_is_seen() -> None:
    assert peak_of(HOLDER) - peak_of(IDLE) == pytest.approx(BLOCK_MIB, abs=4)


def test_a_grandchild_counts() -> None:
    assert peak_of(PARENT, HOLDER) - peak_of(PARENT, IDLE) == pytest.approx(BLOCK_MIB, abs=4)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux keeps a high-water mark")
def test_a_block_given_back_before_any_sample_is_seen() -> None:
    assert peak_of(SPENDER) - peak_of(IDLE) == pytest.approx(BLOCK_MIB, abs=4)


def test_the_peak_outlives_the_process() -> None:
    with child(HOLDER) as process, MemoryProbe(process.pid, interval_seconds=0.005) as probe:
        wait_until(lambda: probe.peak.rss_mib is not None)
        process.kill()
        process.wait()
    assert probe.peak.rss_mib is not None
    assert probe.peak.rss_mib > BLOCK_MIB


def test_a_process_that_is_gone_leaves_nothing_to_see() -> None:
    with child(IDLE) as process:
        pass
    with MemoryProbe(process.pid) as probe:
        pass
    assert probe.peak == MemoryPeak(None, None)


def test_a_process_killed_but_not_reaped_does_not_raise() -> None:
    with child(IDLE) as process:
        process.kill()
        with MemoryProbe(process.pid, interval_seconds=0.005) as probe:
            time.sleep(0.02)
    assert probe.peak.gpu_mib is None


@pytest.mark.usefixtures("no_driver")
def test_without_a_driver_there_is_no_gpu_memory() -> None:
    with child(IDLE) as process, MemoryProbe(process.pid) as probe:
        pass
    assert probe.peak.gpu_mib is None
    assert probe.peak.rss_mib is not None


def test_gpu_memory_of_the_tree_counts(one_gpu: list[SimpleNamespace]) -> None:
    with child(IDLE) as process, child(IDLE) as stranger:
        one_gpu.append(SimpleNamespace(pid=process.pid, usedGpuMemory=300 * MIB))
        one_gpu.append(SimpleNamespace(pid=stranger.pid, usedGpuMemory=500 * MIB))
        with MemoryProbe(process.pid) as probe:
            pass
    assert probe.peak.gpu_mib == 300


def test_gpu_memory_that_is_not_reported_is_none(one_gpu: list[SimpleNamespace]) -> None:
    with child(IDLE) as process:
        one_gpu.append(SimpleNamespace(pid=process.pid, usedGpuMemory=None))
        with MemoryProbe(process.pid) as probe:
            pass
    assert probe.peak.gpu_mib is None


@pytest.mark.usefixtures("one_gpu")
@pytest.mark.parametrize(
    "call", ["nvmlDeviceGetHandleByIndex", "nvmlDeviceGetComputeRunningProcesses"]
)
def test_a_gpu_that_fails_costs_its_figure_only(monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    def lost(handle: int) -> None:
        raise pynvml.NVMLError_GpuIsLost

    monkeypatch.setattr(pynvml, call, lost)
    with child(IDLE) as process, MemoryProbe(process.pid) as probe:
        pass
    assert probe.peak.gpu_mib is None
    assert probe.peak.rss_mib is not None


def test_the_probe_ends_with_its_statement() -> None:
    before = threading.active_count()
    with child(IDLE) as process, MemoryProbe(process.pid):
        assert threading.active_count() == before + 1
    assert threading.active_count() == before
