"""Peak memory of a process and all its descendants, sampled from outside.

Resident memory is summed over the processes. So pages that several processes share count once for
each, and a memory-mapped model counts as far as it is resident. Peaks shorter than the interval
are missed. On Linux the kernel keeps a high-water mark of each process since its start (`VmHWM`,
see proc(5)) that misses none: that of the root is a lower bound of the result.

The descendants are listed once in `LISTING_SECONDS`, as a listing looks at every process of the
machine; one that lives shorter may be missed.

GPU memory is what NVML counts for compute on NVIDIA cards. In a container with process ids of its
own, NVML's ids are not ours and nothing is found.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from harness.machine.nvml import gpu_handles

LISTING_SECONDS = 1.0
MIB, GIB = 2**20, 2**30

_HIGH_WATER = re.compile(rb"^VmHWM:\s+(\d+) kB$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class MemoryPeak:
    """The most that was seen; `None` where nothing was."""

    rss_mib: float | None
    gpu_mib: float | None


class MemoryProbe:
    """Samples the process `pid` and its descendants, in a thread, within a `with` statement.

    The processes may end at any time; what was seen of them stays. The last sample is taken when
    the statement ends. `since_start` is false where a process is watched for a part of its life
    only: the kernel's mark is not that part's. `look` is called with the resident bytes of each
    sample.
    """

    def __init__(
        self,
        pid: int,
        interval_seconds: float = 0.1,
        *,
        since_start: bool = True,
        look: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._pid = pid
        self._look = look
        self._since_start = since_start
        self._interval_seconds = interval_seconds
        self._rss_bytes = 0
        self._gpu_bytes = 0
        self._stop = threading.Event()
        # A daemon: if the harness is ended in between, it does not wait for this thread.
        self._thread = threading.Thread(target=self._watch, name=f"memory-{pid}", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def peak(self) -> MemoryPeak:
        """The most so far, at any time."""
        # No process takes 0 bytes: 0 means that nothing was seen.
        return MemoryPeak(
            rss_mib=self._rss_bytes / MIB or None, gpu_mib=self._gpu_bytes / MIB or None
        )

    def _watch(self) -> None:
        with suppress(psutil.NoSuchProcess), gpu_handles() as gpus:
            root = psutil.Process(self._pid)
            tree = {root}
            next_listing = time.monotonic()
            seconds = 0.0  # at once at first: a short run has a figure too
            ending = False
            # Once more after the end is wanted, so that the last interval has a sample.
            while not ending:
                ending = self._stop.wait(seconds)
                seconds = self._interval_seconds
                if ending or time.monotonic() >= next_listing:
                    tree = _running_tree(root, tree)
                    next_listing = time.monotonic() + LISTING_SECONDS
                    if self._since_start:
                        self._rss_bytes = max(self._rss_bytes, _high_water_bytes(root))
                resident = sum(map(_rss_bytes, tree))
                self._look(resident)
                self._rss_bytes = max(self._rss_bytes, resident)
                self._gpu_bytes = max(self._gpu_bytes, _gpu_bytes(gpus, tree))


def size(count: int) -> str:
    """Bytes in words."""
    return f"{count / GIB:.1f} GiB" if count >= GIB else f"{count / MIB:.0f} MiB"


def _running_tree(root: psutil.Process, known: set[psutil.Process]) -> set[psutil.Process]:
    """The root, its descendants, and the known ones that outlived a parent, as far as they run."""
    # psutil compares the start time too: a process id that was given again is another process.
    running = {process for process in known if process.is_running()}
    with suppress(psutil.Error):
        running.update(root.children(recursive=True))
    return running


def _rss_bytes(process: psutil.Process) -> int:
    try:
        return process.memory_info().rss
    except psutil.Error:
        return 0


def _high_water_bytes(process: psutil.Process) -> int:
    """The kernel's mark; 0 where there is none, or no more since the process ended."""
    if not process.is_running():  # the number may be another process's by now
        return 0
    try:
        found = _HIGH_WATER.search(Path(f"/proc/{process.pid}/status").read_bytes())
    except OSError:
        return 0
    return int(found[1]) * 1024 if found else 0  # proc(5) writes kB and means KiB


def _gpu_bytes(gpus: Iterable[object], processes: Iterable[psutil.Process]) -> int:
    pids = {process.pid for process in processes}
    return sum(used for gpu in gpus for pid, used in _gpu_use(gpu) if pid in pids)


def _gpu_use(gpu: object) -> list[tuple[int, int]]:
    """Process id and bytes of each process that computes there; none where NVML cannot tell."""
    import pynvml

    try:
        using = pynvml.nvmlDeviceGetComputeRunningProcesses(gpu)
    except pynvml.NVMLError:
        return []
    # NVML's "not available" comes as `None`, as under Windows' display driver model.
    return [(process.pid, process.usedGpuMemory or 0) for process in using]
