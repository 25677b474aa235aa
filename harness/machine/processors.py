"""How much of the processors other processes used, while an engine was timed.

Counted are the processors that this process may run on. Of each the kernel says how long it was at
work for anyone. In a container that is for the whole host, which is right: the host's other
processes take their time from the same processors. Without the time of our own processes, it is
what others used. The time that a hypervisor gave to another virtual machine ("steal") is part of
it.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import psutil

_BUSY = ("user", "nice", "system", "irq", "softirq", "steal")  # "guest" is a part of "user"
_LOOK_SECONDS = 2.0  # a look at all processes takes some ms, on a core that may be timed
TRIED_SECONDS = 1.0
"""For so long `share_now` looks."""
_HASHED = bytes(2**18)  # of so much, Python lets its other threads run meanwhile


@dataclass(frozen=True, slots=True)
class ProcessorUse:
    """Processor time that others used, of what all processors had."""

    others_seconds: float
    all_seconds: float


class ProcessorProbe:
    """Counts from when it is made."""

    def __init__(self) -> None:
        self._processors = _usable_processors()
        self._began = time.perf_counter()
        self._before = self._others()
        self._looked, self._use = self._began, ProcessorUse(0.0, 0.0)

    def use(self, is_last: bool = False) -> ProcessorUse:
        """So far, or some seconds ago; the last one is exact."""
        now = time.perf_counter()
        if is_last or now - self._looked >= _LOOK_SECONDS:
            self._looked = now
            every = (now - self._began) * len(self._processors)
            # The two counts have steps of some ms, and are not read at the same moment.
            others = min(max(self._others() - self._before, 0.0), every)
            self._use = ProcessorUse(others, every)
        return self._use

    def _others(self) -> float:
        """Of all time until now."""
        every = psutil.cpu_times(percpu=True)
        busy = sum(
            getattr(every[processor], name, 0.0)
            for processor in self._processors
            if processor < len(every)
            for name in _BUSY
        )
        return busy - sum(_own_seconds())


def share_now(threads: int) -> float:
    """Which part of the processor time that so many busy threads want they get, above 0 and at most
    1. It is tried for a second: how many processes others run does not say it."""
    ends = time.perf_counter() + TRIED_SECONDS
    began = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        used = sum(pool.map(_busy_until, [ends] * threads))
    return min(used / (threads * (time.perf_counter() - began)), 1.0)


def _busy_until(ends: float) -> float:
    """The processor seconds that this thread had meanwhile."""
    began = time.thread_time()
    while time.perf_counter() < ends:
        hashlib.sha256(_HASHED)
    return time.thread_time() - began


def _usable_processors() -> list[int]:
    process = psutil.Process()
    # macOS keeps no process to some of its processors.
    if hasattr(process, "cpu_affinity"):
        return list(process.cpu_affinity())
    return list(range(psutil.cpu_count() or 1))


def _own_seconds() -> Iterator[float]:
    """Of this process and all its descendants. Those that have ended are in their parents' time."""
    root = psutil.Process()
    for process in (root, *root.children(recursive=True)):
        try:
            times = process.cpu_times()
        except psutil.Error:  # it has just ended
            continue
        yield times.user + times.system + times.children_user + times.children_system
