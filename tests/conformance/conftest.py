"""Which backends the suite runs over: all that are registered.

One that cannot run here fails the suite. Only where pip finds no wheel of it for this platform is
it skipped, and then the summary says so at the end, in capitals.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

import pytest

from harness.engine.install import missing_wheel
from harness.engine.interpreters import find_interpreter
from harness.engine.registry import Registered, registered_backends
from harness.engine.session import check_backend
from harness.machine.nvml import has_gpu

CHECK_SECONDS = 120.0
_NOT_TESTED = pytest.StashKey[dict[str, str]]()


@pytest.fixture(scope="module", params=registered_backends(), ids=lambda one: one.name)
def backend(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Registered:
    found: Registered = request.param
    log = tmp_path_factory.mktemp("check") / "check.log"
    python = find_interpreter(found.name, None)
    availability = check_backend(found.target, CHECK_SECONDS, log, python)
    if availability.available:
        return found
    if no_wheel := _no_wheel(found.load().requirements(has_gpu()).packages):
        request.config.stash.setdefault(_NOT_TESTED, {})[found.name] = no_wheel
        pytest.skip(f"{found.name}: {no_wheel}")
    pytest.fail(f"{found.name}: {availability.reason}. {availability.remedy}", pytrace=False)


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    for name, why in config.stash.get(_NOT_TESTED, {}).items():
        terminalreporter.section(f"ENGINE NOT TESTED: {name.upper()}", "!", red=True, bold=True)
        terminalreporter.line(f"NO WHEEL OF {name.upper()} FOR THIS PLATFORM. {why}")


def _no_wheel(packages: Sequence[str]) -> str | None:
    """What pip says where it finds no wheel of one of these; those that are there already count."""
    if not packages:
        return None
    pip = (sys.executable, "-m", "pip", "install", "--dry-run", "--no-deps")
    command = (*pip, "--only-binary=:all:", *packages)
    asked = subprocess.run(command, check=False, capture_output=True, text=True)
    return missing_wheel(asked.stderr) if asked.returncode else None
