"""The command line: one module a command, each thin.

`harness --help` has to be quick, so a command imports what it works with when it runs.
"""

from __future__ import annotations

from harness.cli.app import main

__all__ = ["main"]
