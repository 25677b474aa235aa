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


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """11 files a class and split, of other content each."""
    place = tmp_path / "images"
    for split in ("train", "test"):
        for label in ("FAKE", "REAL"):
            (place / split / label).mkdir(parents=True)
            for number in range(11):
                content = f"{split}{label}{number}".encode() * (number + 1)
                (place / split / label / f"{number:02} (a).jpg").write_bytes(content)
    return place
