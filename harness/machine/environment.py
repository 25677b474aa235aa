"""The machine and the software of a run, without anything that tells whose they are.

No host name, no user, no environment variables. What cannot be found out is `None` or left out.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
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

_ROOT = Path(__file__).resolve().parents[2]
_OWN_FILE = Path(__file__).resolve().relative_to(_ROOT).as_posix()
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


class Gpu(Record):
    """`memory_mib` is `None` where the GPU has none of its own."""

    name: str
    memory_mib: int | None
    driver: str


class Environment(Record):
    """Where and with what a run was made.

    `usable_cores` are the logical ones this process may use, by affinity and by quota.
    `git_revision` is the commit of the harness's own checkout, `None` where the harness was
    installed from a package. Older versions added "+dirty" to it where tracked files were changed.
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
    """The commit of the clone of this project that this module is in, if it is in one.

    A repository is a stranger's program: its config names commands for git to run. So only one that
    holds our own code is looked at, never one around the working directory or around an installed
    package. It has to lie beside `harness/`, and to track our files. Git looks nowhere
    else, and has nothing to do for which it runs a command: no hook, no filter, no monitor.
    Whether files were changed is not looked for, as that runs the filters.
    """
    if not (_ROOT / ".git").exists():
        return None
    if _git("ls-files", "--error-unmatch", "--", "pyproject.toml", _OWN_FILE) is None:
        return None
    head = _git("rev-parse", "--verify", "HEAD")
    return head if head and _COMMIT.fullmatch(head) else None


def _git(*arguments: str) -> str | None:
    # No optional locks: looking must not get in the way of the user's own git commands.
    options = ["-c", "core.fsmonitor=false", "-c", f"core.hooksPath={os.devnull}"]
    own = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    return _output_of(
        ["git", "--no-optional-locks", "--no-pager", *options, *arguments],
        cwd=_ROOT,
        env={
            **own,
            "GIT_CEILING_DIRECTORIES": str(_ROOT.parent),
            "GIT_NO_LAZY_FETCH": "1",
            "GIT_TERMINAL_PROMPT": "0",
        },
    )


def _output_of(
    command: Sequence[str], cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> str | None:
    """What the command prints, stripped; `None` if it is not there, fails or takes too long.

    A program that PATH finds below the working directory is not run: it may be a stranger's.
    """
    program = shutil.which(command[0])
    if program is None or not Path(program).is_absolute():
        return None
    try:
        done = subprocess.run(  # noqa: S603 - fixed arguments, no shell
            [program, *command[1:]],
            capture_output=True,
            check=True,
            cwd=cwd,
            env=env,
            stdin=subprocess.DEVNULL,
            text=True,
            timeout=COMMAND_SECONDS,
        )
    except (OSError, ValueError, subprocess.SubprocessError):
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
