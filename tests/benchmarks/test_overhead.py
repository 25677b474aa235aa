"""What the harness itself costs: its share of a default run, and the start of its command line.

    make bench

Figures go to pytest-benchmark's `extra_info` (`--benchmark-json FILE` writes them out).
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

HARNESS = [sys.executable, "-m", "harness"]


def _child_cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_help_cpu_time(benchmark: Any) -> None:
    """CPU seconds of `harness --help`, user and system; at most 0.4 is the goal."""
    cpu_seconds: list[float] = []

    def ask_for_help() -> None:
        before = _child_cpu_seconds()
        done = subprocess.run([*HARNESS, "--help"], capture_output=True, text=True, check=True)
        cpu_seconds.append(_child_cpu_seconds() - before)
        assert "compare" in done.stdout

    benchmark.pedantic(ask_for_help, rounds=10, warmup_rounds=1)
    benchmark.extra_info["cpu_seconds"] = cpu_seconds


def test_share_of_a_default_run(benchmark: Any, tmp_path: Path) -> None:
    """Wall time of the whole process that is neither loading nor engine time; 5 % is the goal."""
    pytest.importorskip("llama_cpp", reason="pip install 'llm-backend-harness[llama-cpp]'")
    rounds: list[dict[str, float]] = []

    def run() -> None:
        began = time.perf_counter()
        done = subprocess.run(
            [*HARNESS, "run", "--json", "--quiet", "--results", str(tmp_path)],
            capture_output=True,
            text=True,
            check=True,
        )
        process_seconds = time.perf_counter() - began
        summary = json.loads(done.stdout)
        speed = summary["runs"][0]["speed"]
        engine_seconds = speed["engine_seconds"] + speed["load_seconds"]
        rounds.append(
            {
                "process_seconds": process_seconds,
                "engine_and_load_seconds": engine_seconds,
                "outside_seconds": process_seconds - engine_seconds,
                "outside_share": 1 - engine_seconds / process_seconds,
                "harness_seconds_as_reported": summary["harness_seconds"],
            }
        )
        assert summary["runs"][0]["cells"]["failed"] == 0

    benchmark.pedantic(run, rounds=3)
    benchmark.extra_info["rounds"] = rounds
