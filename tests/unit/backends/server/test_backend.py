"""What the backend needs to run."""

from __future__ import annotations

import importlib.util

import pytest

from backends.server import backend


@pytest.mark.parametrize("package", ["aiohttp", "msgspec"])
def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == package else find(name)
    )
    found = backend.check()
    assert (found.available, found.reason) == (False, f"{package} is not installed")
    assert "[server]" in found.remedy
