"""A folder of images as `{train,test}/CLASS/*`: what is embedded, in which order.

No file is passed over without a word: one that is no image is found when it is read, and what lies
where nothing is read is refused with the count.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.errors import DataError, UsageError
from harness.workload.reading import fault

SPLITS = ("train", "test")
_REMEDY = "Lay the images out as train/CLASS/* and test/CLASS/*."


@dataclass(frozen=True, slots=True)
class ImageFile:
    """One file: its split, its class, and its path in the folder of the split and class."""

    split: str
    label: str
    name: str

    @property
    def place(self) -> str:
        return f"{self.split}/{self.label}/{self.name}"

    @property
    def stored_place(self) -> str:
        """As UTF-8 can be written: a name whose bytes are no text holds lone surrogates."""
        return self.place.encode("utf-8", errors="backslashreplace").decode("utf-8")


def list_images(folder: Path) -> Sequence[ImageFile]:
    """All files, by split, class and name. Raises `DataError`."""
    try:
        _check_others(folder)
        found = [image for split in SPLITS for image in _of_split(folder, split)]
    except OSError as error:
        place = error.filename or folder
        raise fault(place, error.strerror or error, "Check its name and permissions.") from error
    return found


def listing_sha256(images: Sequence[ImageFile]) -> str:
    """The hash of the places of all files, in their order."""
    joined = "\0".join(image.place for image in images)
    return hashlib.sha256(joined.encode("utf-8", errors="surrogatepass")).hexdigest()


def _check_others(folder: Path) -> None:
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder", remedy=f"Check its path. {_REMEDY}")
    others = [one.name for one in _visible(folder) if one.name not in SPLITS and one.is_dir()]
    if others:
        raise fault(
            folder,
            f"images in {', '.join(others[:3])} would not be embedded",
            f"{_REMEDY} Move other folders elsewhere.",
        )


def _of_split(folder: Path, split: str) -> list[ImageFile]:
    place = folder / split
    if not place.is_dir():
        raise fault(place, "no such folder", _REMEDY)
    found: list[ImageFile] = []
    for label in _visible(place):
        if not label.is_dir():
            raise fault(label, "a file beside the folders of the classes", _REMEDY)
        names = sorted(entry.name for entry in label.iterdir())
        if inner := [name for name in names if (label / name).is_dir()]:
            raise fault(
                label, f"{len(inner)} folders in a class, {inner[0]} is one of them", _REMEDY
            )
        if not names:
            raise fault(label, "a class without images", _REMEDY)
        found += [ImageFile(split, label.name, name) for name in names]
    if not found:
        raise fault(place, "no classes", _REMEDY)
    return found


def _visible(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))


def check_some(images: Sequence[ImageFile], embedded: Sequence[bool], folder: Path) -> None:
    """Raises `DataError` where a class has no image left in a split."""
    every = {(image.split, image.label) for image in images}
    left = {
        (image.split, image.label)
        for image, is_there in zip(images, embedded, strict=True)
        if is_there
    }
    if lacking := sorted(every - left):
        split, label = lacking[0]
        raise DataError(
            f"{folder}: no image of {split}/{label} can be read",
            remedy="See the list of skipped files.",
        )
