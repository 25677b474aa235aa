"""What of a folder is embedded, and what is refused rather than passed over."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest

from harness.errors import DataError, UsageError
from harness.workload.images import list_images, listing_sha256

Spoil: TypeAlias = Callable[[Path], object]


def test_all_files_are_listed_by_split_class_and_name(folder: Path) -> None:
    (folder / "train" / "FAKE" / ".hidden.jpg").write_bytes(b"x")
    (folder / "notes.txt").write_text("no image, and beside the splits")
    images = list_images(folder)
    assert [image.place for image in images[:2]] == [
        "train/FAKE/.hidden.jpg",
        "train/FAKE/00 (a).jpg",
    ]
    assert len(images) == 4 * 11 + 1
    assert images[-1].place == "test/REAL/10 (a).jpg"


def test_the_hash_of_a_listing_is_that_of_its_places(folder: Path) -> None:
    before = listing_sha256(list_images(folder))
    (folder / "train" / "FAKE" / "00 (a).jpg").rename(folder / "train" / "REAL" / "x.jpg")
    assert listing_sha256(list_images(folder)) != before


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda folder: (folder / "valid").mkdir(), "images in valid would not be embedded"),
        (lambda folder: (folder / "train" / "x.jpg").write_bytes(b"x"), "beside the folders"),
        (lambda folder: (folder / "train" / "FAKE" / "more").mkdir(), "1 folders in a class"),
        (lambda folder: (folder / "test" / "DRAWN").mkdir(), "a class without images"),
        (lambda folder: (folder / "test").rename(folder / "other"), "other would not be embedded"),
    ],
)
def test_what_would_not_be_embedded_is_refused(folder: Path, spoil: Spoil, reason: str) -> None:
    spoil(folder)
    with pytest.raises(DataError, match=reason):
        list_images(folder)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nowhere: no such folder"):
        list_images(tmp_path / "nowhere")
