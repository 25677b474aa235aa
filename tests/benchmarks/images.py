"""`harness embed` beside a plain loop over the same images with the same model, in one go.

    python -m tests.benchmarks.images
    python -m tests.benchmarks.images --model FOLDER --image-size 112

Without a model it is EfficientNet-Lite0; a folder has a vision model of transformers. The plain
loop, `rivals/plain_embedding.py`, opens each image with Pillow and gives batches of the same size
to the model as its package or transformers has it. Both load first, and take turns. Loading is in
neither time; the way to the worker is in ours.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray
from PIL import Image

from backends.embedder.api import DEFAULT_MODEL, PACKAGE, EmbedderOptions
from harness.contract import ModelRef
from harness.embedding.session import EmbedderSession
from harness.engine.interpreters import find_interpreter
from harness.engine.registry import EMBEDDER
from tests.benchmarks.sides import Side, print_sides

BATCH = 8
TIMEOUT_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class Wanted:
    model: str
    image_size: int | None
    images: int


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--image-size", type=int)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    wanted = Wanted(given.model, given.image_size, given.images)
    with tempfile.TemporaryDirectory() as scratch:
        files = _pictures(Path(scratch), wanted.images)
        rounds = [_round(wanted, files, Path(scratch)) for _ in range(given.rounds + 1)]
    for ours, theirs, cosine in rounds:
        print(f"least cosine {cosine:.7f}; load {os.getloadavg()[0]:.1f}", ours, theirs)
    title = f"{wanted.images} images through {Path(wanted.model).name}"
    # The first round is warm-up.
    print_sides(title, [(ours, theirs) for ours, theirs, _ in rounds[1:]])


def _pictures(folder: Path, count: int) -> list[Path]:
    """JPEG files of 32 x 32 pixels."""
    rng = np.random.default_rng(0)
    files = [folder / f"{number}.jpg" for number in range(count)]
    for file in files:
        coarse = Image.fromarray(rng.integers(0, 256, size=(4, 4, 3), dtype=np.uint8))
        coarse.resize((32, 32), Image.Resampling.BICUBIC).save(file)
    return files


def _round(wanted: Wanted, files: list[Path], scratch: Path) -> tuple[Side, Side, float]:
    """Both sides, and the least cosine of what they made of an image."""
    ours, mine = _ours(wanted, files, scratch)
    theirs, others = _theirs(wanted, files)
    norms = np.linalg.norm(mine, axis=1) * np.linalg.norm(others, axis=1)
    return ours, theirs, float(((mine * others).sum(axis=1) / norms).min())


def _ours(wanted: Wanted, files: list[Path], scratch: Path) -> tuple[Side, NDArray[Any]]:
    model = ModelRef(wanted.model, "hf", wanted.model)
    if wanted.model == DEFAULT_MODEL:
        model = ModelRef(DEFAULT_MODEL, PACKAGE, "")
    options = EmbedderOptions(image_size=wanted.image_size, batch=BATCH)
    session = EmbedderSession(model, options, scratch / "log", TIMEOUT_SECONDS)
    try:
        children = psutil.Process().children()
        [worker] = [one for one in children if "worker.py" in str(one.cmdline())]
        cpu, began = _cpu_seconds(worker), time.perf_counter()
        vectors = [one.vector for batch in session.embed(files) for one in batch]
        seconds = time.perf_counter() - began
        side = Side(seconds, _cpu_seconds(worker) - cpu, session.peak_rss_mib or 0.0)
        return side, np.array([np.frombuffer(one or b"", dtype=np.float32) for one in vectors])
    finally:
        session.close()


def _cpu_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _theirs(wanted: Wanted, files: list[Path]) -> tuple[Side, NDArray[Any]]:
    script = Path(__file__).parent / "rivals" / "plain_embedding.py"
    python = find_interpreter(EMBEDDER.name, None) or sys.executable
    order = {"model": wanted.model, "image_size": wanted.image_size, "batch": BATCH}
    question = json.dumps({**order, "files": list(map(str, files))})
    done = subprocess.run(
        [python, str(script)], input=question, capture_output=True, text=True, check=True
    )
    answer = json.loads(done.stdout.splitlines()[-1])
    return Side(**answer["side"]), np.array(answer["vectors"])


if __name__ == "__main__":
    main()
