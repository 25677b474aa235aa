from __future__ import annotations

import pytest

from harness.pipeline.failures import failure_text, read_failure


@pytest.mark.parametrize("remedy", ["", "Use cpu."])
def test_what_was_stored_is_read(remedy: str) -> None:
    assert read_failure(failure_text("no device\nhere", remedy)) == ("no device\nhere", remedy)


def test_what_is_stored_tells_nobodys_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/elsewhere/ada")
    text = failure_text("no torch", "/elsewhere/ada/venv/bin/python -m pip install /opt/x")
    assert text == "no torch\ntry: ~/venv/bin/python -m pip install /opt/x"
