"""From a file to an RGB image, whatever the file is."""

from __future__ import annotations

import hashlib
import io
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest
from PIL import Image

from backends.embedder import decoding
from backends.embedder.decoding import UnreadableError, decode

Make: TypeAlias = Callable[[], bytes]

GRADIENT = np.linspace(0, 255, 12 * 10 * 3).reshape(12, 10, 3).astype(np.uint8)
PICTURE = Image.fromarray(GRADIENT)


def encoded(image: Image.Image, form: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def grey_16() -> bytes:
    return encoded(Image.fromarray(GRADIENT[:, :, 0].astype(np.uint16) * 257), "PNG")


def animated(form: str) -> bytes:
    frames = [PICTURE.rotate(90 * turn) for turn in range(3)]
    return encoded(frames[0], form, save_all=True, append_images=frames[1:], lossless=True)


def rotated() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned to the right
    return encoded(PICTURE.rotate(90, expand=True), "PNG", exif=exif)


def bomb() -> bytes:
    """A PNG of 60,000 x 60,000 pixels by its header, without pixels."""
    png = bytearray(encoded(PICTURE, "PNG"))
    png[16:24] = struct.pack(">II", 60_000, 60_000)
    import zlib

    png[29:33] = struct.pack(">I", zlib.crc32(bytes(png[12:29])))
    return bytes(png)


@pytest.mark.parametrize(
    ("content", "tolerance"),
    [
        (lambda: encoded(PICTURE, "PNG"), 0),
        (lambda: encoded(PICTURE, "BMP"), 0),
        (lambda: encoded(PICTURE, "TIFF"), 0),
        (lambda: encoded(PICTURE, "PPM"), 0),
        (lambda: encoded(PICTURE, "WEBP", lossless=True), 0),
        (lambda: encoded(PICTURE, "JPEG", quality=100, subsampling=0), 4),
        (lambda: encoded(PICTURE.convert("CMYK"), "JPEG", quality=100, subsampling=0), 8),
        (lambda: encoded(PICTURE.convert("P", palette=Image.Palette.ADAPTIVE), "PNG"), 24),
        (lambda: encoded(PICTURE.convert("RGBA"), "PNG"), 0),
        (rotated, 0),
    ],
    ids=["png", "bmp", "tiff", "ppm", "webp", "jpeg", "cmyk", "palette", "alpha", "rotated"],
)
def test_every_kind_of_image_becomes_the_same_rgb(
    tmp_path: Path, content: Make, tolerance: int
) -> None:
    path = tmp_path / "a [1] (2) ü.img"
    path.write_bytes(content())
    decoded = decode(str(path))
    assert decoded.image.mode == "RGB"
    assert decoded.image.size == PICTURE.size
    found = np.asarray(decoded.image).astype(int)
    assert np.abs(found - GRADIENT).max() <= tolerance
    assert decoded.sha256 == hashlib.sha256(content()).hexdigest()
    assert decoded.note == ""


def test_grey_of_16_bits_is_scaled_and_not_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "grey.png"
    path.write_bytes(grey_16())
    found = np.asarray(decode(str(path)).image)
    assert (found == GRADIENT[:, :, :1]).all()


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG"])
def test_of_an_animation_the_first_frame_is_taken_and_that_is_said(
    tmp_path: Path, form: str
) -> None:
    path = tmp_path / "moving"
    path.write_bytes(animated(form))
    decoded = decode(str(path))
    assert decoded.note == "first of 3 frames"
    assert decoded.image.size == PICTURE.size


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (lambda: b"", "empty"),
        (lambda: b"no image at all", "not an image of a known format"),
        (lambda: encoded(PICTURE, "EPS"), "not an image of a known format"),
        (lambda: encoded(PICTURE.resize((300, 300)), "JPEG")[:-400], "damaged or incomplete"),
        (lambda: encoded(PICTURE.resize((300, 300)), "PNG")[:200], "damaged or incomplete"),
        (bomb, "too large"),
        (lambda: encoded(PICTURE.convert("L").convert("F"), "TIFF"), "floats"),
        (lambda: encoded(Image.fromarray(np.array([[2**20]], np.int32)), "TIFF"), "16 bits"),
    ],
    ids=["empty", "text", "eps", "cut-jpeg", "cut-png", "bomb", "float", "32-bit"],
)
def test_what_cannot_be_read_says_why(tmp_path: Path, content: Make, reason: str) -> None:
    path = tmp_path / "odd.png"
    path.write_bytes(content())
    with pytest.raises(UnreadableError, match=reason):
        decode(str(path))


def test_a_pipe_or_a_large_file_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = tmp_path / "pipe.png"
    os.mkfifo(pipe)
    with pytest.raises(UnreadableError, match="not a plain file"):
        decode(str(pipe))
    monkeypatch.setattr(decoding, "MOST_BYTES", 10)
    large = tmp_path / "large.png"
    large.write_bytes(bytes(11))
    with pytest.raises(UnreadableError, match="too large: 11 bytes"):
        decode(str(large))
    with pytest.raises(UnreadableError, match="cannot be read: No such file"):
        decode(str(tmp_path / "nothing.png"))
