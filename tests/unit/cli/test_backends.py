from __future__ import annotations

import sys

import pytest

from backends.api import NO_FILES
from harness.cli.backends import check
from harness.engine.registry import Registered


def test_the_mock_runs_anywhere_and_is_called_a_mock() -> None:
    found = check(Registered("pretender", "backends.mock"))
    assert found.available
    assert found.mock
    assert found.formats == (NO_FILES,)
    assert found.version


@pytest.mark.parametrize("target", ["backends.nowhere", "backends.mock:nothing"])
def test_a_broken_registration_is_told_not_raised(target: str) -> None:
    found = check(Registered("broken", target))
    assert not found.available
    assert "broken cannot be imported" in found.reason
    assert found.remedy


def test_the_interpreter_that_a_run_would_use_is_told() -> None:
    assert check(Registered("pretender", "backends.mock")).python == sys.executable
