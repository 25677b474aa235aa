"""The machine that figures come from, in a line: whoever passes a table on has to name it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rich.text import Text

from harness.machine.environment import Environment, Gpu
from harness.report.text import lines, number

_MIB_IN_GIB = 1024


def machine_lines(environments: Sequence[Environment]) -> Text:
    """A line for each machine that differs in what is shown here."""
    return lines(*dict.fromkeys(map(machine_line, environments)))


def machine_line(environment: Environment) -> str:
    """`Machine: AMD EPYC 7763, 2 of 4 cores, 15.6 GiB, no GPU`."""
    memory = f"{number(environment.memory_mib / _MIB_IN_GIB)} GiB"
    gpus = Counter(map(_gpu, environment.gpus))
    shown = [f"{count} x {gpu}" if count > 1 else gpu for gpu, count in gpus.items()]
    parts = [environment.cpu, *_cores(environment), memory, *(shown or ["no GPU"])]
    return f"Machine: {', '.join(parts)}"


def _cores(environment: Environment) -> list[str]:
    """The logical ones: how many may be used, and of how many where that is not all."""
    usable, every = environment.usable_cores, environment.logical_cores
    count = usable or every
    if count is None:
        return []
    of = f" of {every}" if every and every != count else ""
    return [f"{count}{of} {'core' if count == 1 and not of else 'cores'}"]


def _gpu(gpu: Gpu) -> str:
    memory = f" {number(gpu.memory_mib / _MIB_IN_GIB)} GiB" if gpu.memory_mib else ""
    return f"{gpu.name}{memory}"
