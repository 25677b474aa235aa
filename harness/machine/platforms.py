"""Where the harness runs: on Linux; macOS is untried; Windows lacks what workers are held by."""

from __future__ import annotations

import sys

from harness.errors import HarnessError


def check_platform() -> None:
    """Raises `HarnessError` on Windows, which has neither process groups nor `fcntl` locks."""
    running_on: str = sys.platform  # mypy takes the name itself for a constant
    if running_on == "win32":
        raise HarnessError(
            "the harness does not run on Windows",
            remedy="Use Linux, also as WSL 2 inside Windows, or macOS.",
        )
