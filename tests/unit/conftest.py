from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.store.store import FILE_NAME

STORES = Path(__file__).parents[1] / "stores"


@pytest.fixture
def old_results(tmp_path: Path) -> Callable[[int], Path]:
    """Makes a results folder with the file of an earlier schema version."""

    def copy(version: int) -> Path:
        folder = tmp_path / f"results-{version}"
        folder.mkdir()
        shutil.copy(STORES / f"schema-{version}.sqlite", folder / FILE_NAME)
        return folder

    return copy


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Stands for images: 11 files a class and split, of other content each."""
    place = tmp_path / "images"
    for split in ("train", "test"):
        for label in ("FAKE", "REAL"):
            (place / split / label).mkdir(parents=True)
            for number in range(11):
                content = f"{split}{label}{number}".encode() * (number + 1)
                (place / split / label / f"{number:02} (a).jpg").write_bytes(content)
    return place
