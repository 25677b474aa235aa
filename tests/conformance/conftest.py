"""Which backends the suite runs over: all that are registered, and real servers if they are there.

One that cannot run here fails the suite. Only where pip finds no wheel of it for this platform is
it skipped, and then the summary says so at the end, in capitals.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence

import pytest

from backends.api import OptionValue
from harness.contract import has_nvidia
from harness.engine.install import missing_wheel
from harness.engine.registry import Registered, registered_backends
from harness.engine.session import check_backend
from tests import servers

pytest.register_assert_rewrite("harness.testing.conformance.test_contract")

from harness.testing.conformance.options import (  # noqa: E402
    CHECK_SECONDS,
    Candidate,
    candidate_of,
)

WANTED: dict[str, OptionValue] = {
    "dtype": "float32",  # with 8 bits of mantissa, what is only near looks right
    "enforce_eager": True,  # compiling takes minutes, for each session
    "threads": 1,  # two wait for each other, for long beside the tests of another process
}
_NOT_TESTED = "engine not tested: "


IN_PROCESS = [one for one in registered_backends() if one.name != "server"]


@pytest.fixture(
    scope="module",
    # vLLM's server takes too long for all of it: see test_vllm_server.py.
    params=[*IN_PROCESS, "llama-server", "llama_cpp.server"],
    ids=lambda one: one if isinstance(one, str) else one.name,
)
def candidate(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Candidate]:
    if isinstance(request.param, Registered):
        yield _in_process(request.param, tmp_path_factory)
    else:
        with servers.candidate(request.param) as found:
            yield found


def _in_process(registered: Registered, tmp_path_factory: pytest.TempPathFactory) -> Candidate:
    backend = registered.load()
    known = {option.name for option in backend.OPTIONS}
    options = {key: value for key, value in WANTED.items() if key in known}
    found = candidate_of(registered.name, servers.MODEL, options)
    log = tmp_path_factory.mktemp("check") / "check.log"
    availability = check_backend(found.target, CHECK_SECONDS, log, found.python)
    if availability.available:
        return found
    if no_wheel := _no_wheel(backend.requirements(has_nvidia()).packages):
        pytest.skip(f"{_NOT_TESTED}{found.name}: {no_wheel}")
    pytest.fail(f"{found.name}: {availability.reason}. {availability.remedy}", pytrace=False)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """By what is reported of the tests, as they may have run in another process."""
    skipped = [report.longrepr for report in terminalreporter.getreports("skipped")]
    reasons = {where[2] for where in skipped if isinstance(where, tuple)}
    for reason in sorted(one for one in reasons if _NOT_TESTED in one):
        name, _, why = reason.partition(_NOT_TESTED)[2].partition(": ")
        terminalreporter.section(f"ENGINE NOT TESTED: {name.upper()}", "!", red=True, bold=True)
        terminalreporter.line(f"NO WHEEL OF {name.upper()} FOR THIS PLATFORM. {why}")


def _no_wheel(packages: Sequence[str]) -> str | None:
    """What pip says where it finds no wheel of one of these; those that are there already count."""
    if not packages:
        return None
    pip = (sys.executable, "-m", "pip", "install", "--dry-run", "--no-deps")
    command = (*pip, "--only-binary=:all:", *packages)
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    return missing_wheel(done.stderr) if done.returncode else None
