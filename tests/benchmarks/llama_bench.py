"""`harness bench` beside llama.cpp's own llama-bench: pp512 and tg128, in one go.

    python tests/benchmarks/llama_bench.py PATH/TO/llama-bench

llama-bench is in the source distribution of llama-cpp-python:

    pip download --no-binary :all: --no-deps llama-cpp-python==0.3.36
    tar xf llama_cpp_python-*.tar.gz && cd llama_cpp_python-*/vendor/llama.cpp
    cmake -B build -DCMAKE_BUILD_TYPE=Release && cmake --build build --target llama-bench

Both read the same file with the same number of threads, in turns whose order alternates (A B, B A).
A round's figure is the mean of its repetitions. The ratio of the means of all rounds comes with a
95 % interval by bootstrap over rounds.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table
from scipy.stats import bootstrap

from backends.rules import usable_cpus
from harness.engine.models import resolve_model

TESTS = ("pp512", "tg128")
Speeds: TypeAlias = dict[str, float]  # tokens per second by test


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("llama_bench")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--repetitions", type=int, default=3)
    arguments = parser.parse_args()
    model = resolve_model("smollm2-135m", ("gguf",), {}).location
    threads = usable_cpus()
    common = ["-m", model, "-t", str(threads), "-r", str(arguments.repetitions), "-o", "json"]
    sides: dict[str, Callable[[], Speeds]] = {
        "theirs": lambda: theirs(_output([arguments.llama_bench, *common])),
        "ours": lambda: ours(_output([sys.executable, "-m", "harness", "bench", *common])),
    }
    speeds: dict[str, list[Speeds]] = {name: [] for name in sides}
    for number in track(range(arguments.rounds), console=Console(stderr=True)):
        for name in sorted(sides, reverse=number % 2 == 0):
            speeds[name].append(sides[name]())
    _print(speeds)


def _output(command: list[str]) -> Any:
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    return json.loads(done.stdout)


def theirs(rows: list[dict[str, Any]]) -> Speeds:
    """llama-bench has a row for each test; `n_gen` is 0 for prompt processing."""
    named = {f"tg{row['n_gen']}" if row["n_gen"] else f"pp{row['n_prompt']}": row for row in rows}
    return {test: named[test]["avg_ts"] for test in TESTS}


def ours(rows: list[dict[str, Any]]) -> Speeds:
    named = {row["test"]: row for row in rows}
    return {test: named[test]["avg_ts"] for test in TESTS}


def _print(speeds: dict[str, list[Speeds]]) -> None:
    table = Table(title="tokens per second: means of rounds, and their ratio")
    for title in ("test", "llama-bench", "harness bench", "ratio", "95 % interval", "rounds"):
        table.add_column(title, justify="right")
    for test in TESTS:
        a, b = (np.array([one[test] for one in speeds[name]]) for name in ("ours", "theirs"))
        interval = bootstrap(
            (a, b), lambda x, y, axis: x.mean(axis) / y.mean(axis), paired=True, rng=0
        ).confidence_interval
        ratio = f"{a.mean() / b.mean():.3f}"
        between = f"{interval.low:.3f} to {interval.high:.3f}"
        table.add_row(test, f"{b.mean():.1f}", f"{a.mean():.1f}", ratio, between, str(len(a)))
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
