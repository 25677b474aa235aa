"""A folder of files, and a stub embedder in a worker of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.embedding import session
from harness.engine.registry import Registered


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers open the stub; it needs no model."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    monkeypatch.setattr(session, "EMBEDDER", Registered("embedder", "stub_embedder"))
