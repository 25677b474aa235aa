"""`harness embed` as a user runs it: the real default encoder over images of every odd kind."""

from __future__ import annotations

import io
import json
import os
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest
from PIL import Image

from tests.end_to_end.inside import inside
from tests.tiny_models import save_vit

Make: TypeAlias = Callable[[int], bytes]


def picture(seed: int, size: tuple[int, int] = (40, 32)) -> Image.Image:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, size=(4, 4, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


def encoded(image: Image.Image, form: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def grey_16(seed: int) -> bytes:
    grey = np.asarray(picture(seed).convert("L")).astype(np.uint16) * 257
    return encoded(Image.fromarray(grey), "PNG")


def animated(seed: int) -> bytes:
    frames = [picture(seed), picture(seed + 1)]
    return encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])


def huge(seed: int) -> bytes:
    """A PNG that says it has 60,000 x 60,000 pixels."""
    png = bytearray(encoded(picture(seed), "PNG"))
    png[16:24] = struct.pack(">II", 60_000, 60_000)
    png[29:33] = struct.pack(">I", zlib.crc32(bytes(png[12:29])))
    return bytes(png)


# Each kind twice. Where the ending of a name says nothing, the content does.
ODD: Sequence[tuple[str, Make, str]] = (
    ("text {}.jpg", lambda n: f"no image {n}".encode(), "not an image"),
    ("empty {}.png", lambda n: b"", "empty"),
    ("cut {}.jpg", lambda n: encoded(picture(n, (300, 300)), "JPEG")[:-300], "damaged"),
    ("cmyk {}.jpg", lambda n: encoded(picture(n).convert("CMYK"), "JPEG"), ""),
    ("sixteen {}.png", grey_16, ""),
    ("palette {}.png", lambda n: encoded(picture(n).convert("P"), "PNG"), ""),
    ("moving {}.gif", animated, ""),
    ("huge {}.png", huge, "too large"),
    ("with  spaces {}.jpg", lambda n: encoded(picture(n), "JPEG"), ""),
    ("bild-ü-画像 {}.webp", lambda n: encoded(picture(n), "WEBP"), ""),
    ("0001 ({}) [x].bmp", lambda n: encoded(picture(n), "BMP"), ""),
    ("no ending {}", lambda n: encoded(picture(n), "TIFF"), ""),
)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    for split in ("train", "test"):
        for at, label in enumerate(("FAKE", "REAL")):
            (folder / split / label).mkdir(parents=True)
            for number in range(6):
                content = encoded(picture(10 * at + number), "JPEG")
                (folder / split / label / f"{number}.jpg").write_bytes(content)
    for number, label in enumerate(("FAKE", "REAL")):
        for name, make, _ in ODD:
            path = folder / "train" / label / name.format(number)
            path.write_bytes(make(100 + number))
    return folder


def harness(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "harness", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_odd_images_are_embedded_or_named_and_the_result_is_data_of_a_run(
    images: Path, tmp_path: Path
) -> None:
    done = harness(tmp_path, "embed", "images", "-o", "out.parquet", "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    reasons = {one["file"]: one["reason"] for one in answer["skipped"]}
    wrong = {
        f"train/{label}/{name.format(number)}": reason
        for name, _, reason in ODD
        for number, label in enumerate(("FAKE", "REAL"))
        if reason
    }
    assert set(reasons) == set(wrong)
    assert all(reasons[file].startswith(reason) for file, reason in wrong.items())
    assert [one["file"] for one in answer["notes"]] == [
        "train/FAKE/moving 0.gif",
        "train/REAL/moving 1.gif",
    ]
    assert sum(one["images"] for one in answer["images"]) == 4 * 6 + 2 * 8
    assert answer["embedder"]["dimensions"] == 1280
    run = harness(
        *(tmp_path, "run", "--backend", "mock", "--data", "out.parquet", "--voters", "1"),
        *("--queries", "4", "--calibration-queries", "2", "--no-baselines", "--quiet"),
    )
    assert run.returncode == 0, run.stderr


def test_killed_while_it_loads_and_while_it_embeds_it_writes_the_same_file(
    images: Path, tmp_path: Path
) -> None:
    encoder = save_vit(tmp_path / "vit")
    for number in range(1500):  # so many that it is still embedding when it is looked at
        path = images / "train" / "FAKE" / f"more {number}.png"
        path.write_bytes(encoded(picture(number), "PNG"))
    how = ("--model", str(encoder), "--layer", "1,last", "--batch-size", "4", "--quiet")
    whole, out = tmp_path / "whole.npz", tmp_path / "out.npz"
    assert inside(tmp_path, "embed", "images", "-o", whole.name, *how).returncode == 0
    part = tmp_path / "out.npz.part"
    for done in (0, 20):
        process = subprocess.Popen(
            [sys.executable, "-m", "harness", "embed", "images", "-o", out.name, *how],
            cwd=tmp_path,
        )
        while not (part / "log").exists() or _lines(part / "files.jsonl") < done:
            assert process.poll() is None
            time.sleep(0.002)
        process.kill()
        process.wait()
    before = _lines(part / "files.jsonl")
    answer = json.loads(inside(tmp_path, "embed", "images", "-o", out.name, *how, "--json").stdout)
    assert 0 < answer["images_embedded_now"] <= sum(1 for _ in images.rglob("*.*")) - before + 4
    assert out.read_bytes() == whole.read_bytes()


def _lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def test_without_its_packages_the_remedy_is_named(images: Path, tmp_path: Path) -> None:
    # An interpreter without them: a module that is `None` here cannot be found.
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\nsys.modules['PIL'] = None\nsys.modules['torch'] = None\n"
    )
    command = [sys.executable, "-m", "harness", "embed", "images", "-o", "out"]
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "PIL not installed" in done.stderr.replace("torch, ", "")
    assert "[embed]" in done.stderr
    assert "Traceback" not in done.stderr
