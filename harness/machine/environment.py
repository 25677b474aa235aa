"""The machine and the software of a run, without anything that tells whose they are.

No host name, no user, no environment variables. What cannot be found out is `None` or left out.
"""

from __future__ import annotations

import platform
import shutil
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import psutil

from harness.contract import DISTRIBUTION, usable_cpus
from harness.machine.nvml import gpu_handles
from harness.record import Record

PACKAGES = (
    DISTRIBUTION,
    "jinja2",
    "numpy",
    "pyarrow",
    "pydantic",
    "scikit-learn",
    "scipy",
    "sqlalchemy",
)
COMMAND_SECONDS = 2.0
MIB = 2**20


class Gpu(Record):
    """`memory_mib` is `None` where the GPU has none of its own."""

    name: str
    memory_mib: int | None
    driver: str


class Environment(Record):
    """Where and with what a run was made.

    `usable_cores` are the logical ones this process may use, by affinity and by quota.
    `git_revision` is the commit of the checkout around the working directory, with "+dirty" if
    tracked files were changed.
    """

    created: str
    platform: str
    python: str
    cpu: str
    physical_cores: int | None
    logical_cores: int | None
    usable_cores: int | None
    memory_mib: int
    gpus: list[Gpu]
    git_revision: str | None
    packages: dict[str, str]


def describe_environment() -> Environment:
    """The environment of this process now."""
    return Environment(
        created=datetime.now(UTC).isoformat(),
        platform=platform.platform(),
        python=f"{platform.python_implementation()} {platform.python_version()}",
        cpu=_cpu_name(),
        physical_cores=psutil.cpu_count(logical=False),
        logical_cores=psutil.cpu_count(),
        usable_cores=usable_cpus(),
        memory_mib=psutil.virtual_memory().total // MIB,
        gpus=_gpus(),
        git_revision=_git_revision(),
        packages=_packages(),
    )


def _cpu_name() -> str:
    """From Linux, from macOS, or at least the processor's family."""
    of_macos = ["sysctl", "-n", "machdep.cpu.brand_string"]
    return _cpuinfo_name() or _output_of(of_macos) or platform.processor() or platform.machine()


def _cpuinfo_name() -> str | None:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, None)


def _git_revision() -> str | None:
    # No optional locks: looking must not get in the way of the user's own git commands.
    describe = ["describe", "--always", "--exclude=*", "--abbrev=40", "--dirty=+dirty"]
    return _output_of(["git", "--no-optional-locks", *describe])


def _output_of(command: Sequence[str]) -> str | None:
    """What the command prints, stripped; `None` if it is not there, fails or takes too long."""
    program = shutil.which(command[0])
    if program is None:
        return None
    try:
        done = subprocess.run(  # noqa: S603 - fixed arguments, no shell
            [program, *command[1:]],
            capture_output=True,
            check=True,
            stdin=subprocess.DEVNULL,
            text=True,
            timeout=COMMAND_SECONDS,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None


def _packages() -> dict[str, str]:
    """Versions from the packages' metadata; nothing is imported."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def _gpus() -> list[Gpu]:
    """None where the driver is missing, or fails."""
    import pynvml

    with gpu_handles() as handles:
        try:
            driver = pynvml.nvmlSystemGetDriverVersion() if handles else ""
            return [_gpu(handle, driver) for handle in handles]
        except pynvml.NVMLError:
            return []


def _gpu(handle: object, driver: str) -> Gpu:
    import pynvml

    try:
        memory_mib = pynvml.nvmlDeviceGetMemoryInfo(handle).total // MIB
    except pynvml.NVMLError_NotSupported:
        memory_mib = None
    return Gpu(name=pynvml.nvmlDeviceGetName(handle), memory_mib=memory_mib, driver=driver)
