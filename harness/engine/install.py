"""Making an environment of its own for a backend, through uv where there is one, else venv and pip.

An environment cannot be moved once it is made. So it is made in its place, and its stamp, which
says what was wanted, is written last: without the stamp it counts for nothing.
"""

from __future__ import annotations

import fcntl
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from harness.contract import Requirements
from harness.engine.interpreters import OwnEnvironment, own_environment
from harness.errors import EngineError

_TIDY_SECONDS = 10.0  # for an interrupted pip to remove what it has unpacked
_NO_WHEEL = (
    "No matching distribution found",  # pip
    "has no usable wheels",  # uv
    "has no wheels with a matching",  # uv
)
_NO_NETWORK = "after connection broken by"  # pip then finds no matching distribution either


def install(
    name: str, wanted: Requirements, tell: Callable[[str], None], can_run: Callable[[], bool]
) -> bool:
    """Makes the environment of a backend; false where it was there already, and `can_run`.

    What the steps print goes to our stderr; `tell` takes what we have to say. Raises `EngineError`
    where a step fails. After that, and after Ctrl-C, nothing is left of it.
    """
    environment = own_environment(name)
    try:
        environment.folder.parent.mkdir(parents=True, exist_ok=True)
        with _locked(environment.folder.with_name(f"{name}.lock"), tell):
            # Whole by its stamp, it can still be damaged, as by a removed package.
            if environment.is_whole and is_current(environment, wanted) and can_run():
                return False
            tell(f"Installing {', '.join(wanted.packages)} into {environment.folder}")
            _make(environment, wanted)
            environment.stamp.write_text(_stamp(wanted))
            return True
    except OSError as error:
        raise EngineError(
            f"the environment of {name} cannot be made: {error}",
            remedy="Set XDG_DATA_HOME to a folder that can be written and has room.",
        ) from error


def is_current(environment: OwnEnvironment, wanted: Requirements) -> bool:
    """Whether one that is whole was made for these requirements and for our version of Python."""
    with suppress(OSError, ValueError):
        return environment.stamp.read_text(encoding="utf-8") == _stamp(wanted)
    return False


def missing_wheel(said: str) -> str | None:
    """The line in which pip or uv say that a package has nothing for this platform."""
    if _NO_NETWORK in said:
        return None
    lines = (line.strip() for line in said.splitlines())
    return next((line for line in lines if any(words in line for words in _NO_WHEEL)), None)


def _stamp(wanted: Requirements) -> str:
    stamp = {
        "python": sysconfig.get_python_version(),  # compiled packages are made for one of them
        "packages": wanted.packages,
        "unwanted": wanted.unwanted,
    }
    return json.dumps(stamp, indent=2) + "\n"


def _make(environment: OwnEnvironment, wanted: Requirements) -> None:
    environment.stamp.unlink(missing_ok=True)  # first: half of it must not be taken for the whole
    try:
        if environment.folder.exists():
            shutil.rmtree(environment.folder)
        for step in _steps(environment, wanted):
            _run(step)
    # Ctrl-C and SIGTERM too, which are no `Exception`: half an environment must not stay.
    except BaseException:
        shutil.rmtree(environment.folder, ignore_errors=True)
        raise


def _steps(environment: OwnEnvironment, wanted: Requirements) -> Iterator[Sequence[str]]:
    """The argument lists of the programs to run, in their order."""
    folder, python = str(environment.folder), str(environment.python)
    if uv := shutil.which("uv"):
        make: tuple[str, ...] = (uv, "venv", "--python", sys.executable)
        add: tuple[str, ...] = (uv, "pip", "install", "--python", python)
        remove: tuple[str, ...] = (uv, "pip", "uninstall", "--python", python)
    else:
        make = (sys.executable, "-m", "venv")
        add = (python, "-m", "pip", "install", "--disable-pip-version-check")
        remove = (python, "-m", "pip", "uninstall", "--yes")
    yield *make, folder
    yield *add, *wanted.packages
    if wanted.unwanted:
        yield *remove, *wanted.unwanted


def _run(step: Sequence[str]) -> None:
    said: list[str] = []
    with _started(step) as process:
        for line in process.stderr or ():
            sys.stderr.write(line)
            said.append(line)
    if process.returncode != 0:
        raise _failure(step, process.returncode, "".join(said))


def _failure(step: Sequence[str], code: int, said: str) -> EngineError:
    if cause := missing_wheel(said):
        here = f"{sysconfig.get_platform()}, Python {sysconfig.get_python_version()}"
        return EngineError(
            f"there is no wheel for this platform ({here}): {cause}",
            remedy="Use another backend, or `python` in [backends.NAME] of a config to name an "
            "interpreter that has this engine.",
        )
    return EngineError(
        f"this step ended with exit code {code}: {shlex.join(step)}",
        remedy="Fix what it says above, and run the same command again.",
    )


@contextmanager
def _started(step: Sequence[str]) -> Iterator[subprocess.Popen[str]]:
    """The process of a step, which ends with us.

    pip shows its progress on stdout, which therefore is the terminal itself; stderr is read.
    """
    with subprocess.Popen(  # noqa: S603 - no shell
        step,
        env=_environment(),
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,  # Ctrl-C reaches us alone; we pass it on and wait
    ) as process:
        try:
            yield process
        except BaseException:
            _interrupt(process)
            raise


def _environment() -> Mapping[str, str]:
    """Ours without what would make packages of ours pass for packages of the new environment."""
    ours = {"PYTHONPATH", "PYTHONHOME"}
    return {name: value for name, value in os.environ.items() if name not in ours}


def _interrupt(process: subprocess.Popen[str]) -> None:
    """Ends it and its children, with Ctrl-C at first: pip then removes what it has unpacked."""
    try:
        with suppress(ProcessLookupError, subprocess.TimeoutExpired):
            # The group: pip starts compilers, which start others.
            os.killpg(process.pid, signal.SIGINT)
            process.wait(_TIDY_SECONDS)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


@contextmanager
def _locked(path: Path, tell: Callable[[str], None]) -> Iterator[None]:
    # The lock goes when the file is closed, and with the process. The file itself stays: if one
    # process removed it while another waits for it, a third one would lock a new file.
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            tell("Waiting for another install of it to end")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
