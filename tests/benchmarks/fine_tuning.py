"""`harness baseline distilbert` beside a plain torch loop over the same texts, in one go.

    python -m tests.benchmarks.fine_tuning

2,000 short texts to learn from, MiniLM, as many epochs for both, batches of 32. The plain loop,
`rivals/plain_fine_tuning.py`, validates after each epoch and saves no checkpoints. Each side is a
command from its start to its end, and they take turns: loading, and our worker, store and
checkpoints are in the time.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from harness.engine.interpreters import find_interpreter
from harness.engine.registry import TRAINER
from tests.benchmarks.sides import Side, print_sides

TRAIN, TEST = 2000, 200
GOOD, BAD = ("lovely", "bright", "moving", "sharp"), ("dull", "clumsy", "flat", "noisy")
PLAIN = ("film", "story", "actor", "scene", "music", "end", "plot", "cast", "camera", "night")


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=2)
    given = parser.parse_args()
    rounds = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        _write_texts(folder / "texts.csv")
        for number in range(given.rounds):
            ours, accuracy = _ours(folder, given.epochs, number)
            theirs, other = _theirs(folder, given.epochs, number)
            rounds.append((ours, theirs))
            load = os.getloadavg()[0]
            print(f"accuracy {accuracy:.3f}, {other:.3f}; load {load:.1f}", ours, theirs)
    print_sides(f"{TRAIN:,} short texts, {given.epochs} epochs of MiniLM", rounds)


def _write_texts(path: Path) -> None:
    rng = np.random.default_rng(0)
    with path.open("w", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(["split", "label", "text"])
        for row in range(TRAIN + TEST):
            is_good = row % 2 == 0
            words = [*rng.choice(PLAIN, 16), *rng.choice(GOOD if is_good else BAD, 2)]
            text = " ".join(map(str, rng.permutation(words)))
            table.writerow(["train" if row < TRAIN else "test", "BG"[is_good], text])


def _ours(folder: Path, epochs: int, seed: int) -> tuple[Side, float]:
    command = [sys.executable, "-m", "harness", "baseline", "distilbert", "--data", "texts.csv"]
    command += ["--queries", str(TEST), "--epochs", str(epochs), "--seed", str(seed), "--json"]
    side, said = _timed([*command, "--quiet"], folder)
    return side, json.loads(said)["baselines"][0]["estimate"]["value"]


def _theirs(folder: Path, epochs: int, seed: int) -> tuple[Side, float]:
    script = Path(__file__).parent / "rivals" / "plain_fine_tuning.py"
    python = find_interpreter(TRAINER.name, None) or sys.executable
    side, said = _timed([python, str(script), "texts.csv", str(epochs), str(seed)], folder)
    return side, float(said.split()[-1])


def _timed(command: list[str], folder: Path) -> tuple[Side, str]:
    """What it took with all of its children, and what it printed."""
    began = time.perf_counter()
    with (folder / "said").open("w+") as said:
        process = subprocess.Popen(command, cwd=folder, stdout=said)
        _, status, used = os.wait4(process.pid, 0)
        if status:
            raise SystemExit(f"{command} ended with {status}")
        said.seek(0)
        seconds = time.perf_counter() - began
        return Side(seconds, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024), said.read()


if __name__ == "__main__":
    main()
