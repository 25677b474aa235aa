"""How much memory is free: of this machine and the cgroups around this process, or of its GPUs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil

from harness.machine.nvml import gpu_handles


def free_bytes(on_gpu: bool, root: Path = Path("/")) -> int | None:
    """What a new process can take; `None` of GPUs whose driver does not say."""
    if on_gpu:
        return _free_of_gpus()
    return min([int(psutil.virtual_memory().available), *_left_in_cgroups(root)])


def _free_of_gpus() -> int | None:
    """Of all cards together, as engines divide a model over them."""
    import pynvml

    with gpu_handles() as handles, suppress(pynvml.NVMLError):
        return sum(int(pynvml.nvmlDeviceGetMemoryInfo(one).free) for one in handles) or None
    return None


def _left_in_cgroups(root: Path) -> Iterator[int]:
    """Of each cgroup of version 2 around this process that has a limit. Pages of files that it
    holds are given back when they are wanted, so they count as free."""
    lines: list[str] = []
    with suppress(OSError):
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    for line in lines:
        controllers, _, path = line.partition(":")[2].partition(":")
        if controllers:
            continue
        # In a container the path may be the host's: what is not there is passed over.
        for folder in [path, *map(str, Path(path).parents)]:
            cgroup = root / "sys/fs/cgroup" / folder.lstrip("/")
            with suppress(OSError, ValueError, KeyError):
                limit = int((cgroup / "memory.max").read_text())
                used = int((cgroup / "memory.current").read_text())
                stat = (line.split() for line in (cgroup / "memory.stat").read_text().splitlines())
                files = {key: int(value) for key, value in stat}
                yield max(limit - used + files["active_file"] + files["inactive_file"], 0)
