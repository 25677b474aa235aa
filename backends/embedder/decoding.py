"""From a file to an RGB image. A file may come from anywhere, and may be anything.

Pillow's limit on the number of pixels stays on. Of its formats, those are opened that a data set
has: others start programs (EPS), or are not images.
"""

from __future__ import annotations

import hashlib
import io
import os
import stat
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

# A camera's MPO is opened as JPEG.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
MOST_BYTES = 2**28  # of a file: 256 MiB, more than any image within Pillow's limit needs

Image.init()  # with formats named, Pillow would not load the plugins that they need


class UnreadableError(Exception):
    """Why a file is skipped, in words; `sha256` is that of the file where it could be read."""

    def __init__(self, reason: str, sha256: str = "") -> None:
        super().__init__(reason)
        self.sha256 = sha256


@dataclass(frozen=True, slots=True)
class Decoded:
    """An RGB image, upright; `note` says what of the file is not in it."""

    image: Image.Image
    sha256: str
    note: str


def decode(file: str) -> Decoded:
    """Raises `UnreadableError`."""
    content = _read(Path(file))
    sha256 = hashlib.sha256(content).hexdigest()
    try:
        with warnings.catch_warnings():
            # Pillow warns of an image that is somewhat too large, and fails for twice that size.
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content), formats=FORMATS) as opened:
                note = _note(opened)
                upright = ImageOps.exif_transpose(opened)
                return Decoded(_as_rgb(upright), sha256, note)
    except UnreadableError as error:
        raise UnreadableError(str(error), sha256) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UnreadableError(f"too large: {_first_line(error)}", sha256) from error
    except UnidentifiedImageError as error:
        raise UnreadableError(f"not an image of a known format ({_listed()})", sha256) from error
    # A damaged image brings out anything: OSError, SyntaxError, struct.error, zlib.error.
    except Exception as error:
        raise UnreadableError(f"damaged or incomplete: {_first_line(error)}", sha256) from error


def _read(path: Path) -> bytes:
    try:
        # Not opened before it is known to be a file: a pipe may never be.
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise UnreadableError("not a plain file")
        if found.st_size > MOST_BYTES:
            raise UnreadableError(f"too large: {found.st_size:,} bytes")
        if not found.st_size:
            raise UnreadableError("empty")
        with path.open("rb") as stream:
            return stream.read(MOST_BYTES)
    except OSError as error:
        raise UnreadableError(f"cannot be read: {os.strerror(error.errno or 0)}") from error


def _note(image: Image.Image) -> str:
    frames = int(getattr(image, "n_frames", 1))
    # A camera's MPO file has a preview, or a second view, behind the image.
    return f"first of {frames} frames" if frames > 1 and image.format != "MPO" else ""


def _as_rgb(image: Image.Image) -> Image.Image:
    """Transparency is left out, as torchvision's and transformers' readers do."""
    if image.mode == "F":
        raise UnreadableError("its pixels are floats, and their range is not known")
    if image.mode.startswith("I"):
        return _from_16_bits(image).convert("RGB")
    return image.convert("RGB")


def _from_16_bits(image: Image.Image) -> Image.Image:
    """Grey of 16 bits as grey of 8: Pillow's own conversion cuts all above 255 off."""
    pixels: Any = np.asarray(image)
    if pixels.min() < 0 or pixels.max() > 0xFFFF:
        raise UnreadableError("its pixels have more than 16 bits, and their range is not known")
    return Image.fromarray(np.round(pixels / 257.0).astype(np.uint8))


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def _listed() -> str:
    return ", ".join(FORMATS)
