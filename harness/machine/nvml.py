"""NVIDIA's management library, where its driver is there: the harness opens and closes it here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager


@contextmanager
def gpu_handles() -> Iterator[Sequence[object]]:
    """Handles of all NVIDIA GPUs, in NVML's order; none without the driver."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        yield ()
        return
    try:
        yield _handles()
    finally:
        # NVML counts how often it was opened: others in this process that use it are not cut off.
        pynvml.nvmlShutdown()


def _handles() -> Sequence[object]:
    import pynvml

    try:
        count = pynvml.nvmlDeviceGetCount()
        return [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(count)]
    except pynvml.NVMLError:
        return ()
