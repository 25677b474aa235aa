"""Whether a run takes as long as `harness run --plan` says: 10 tries, of which 9 are to be right.

    make bench

The first plan comes of a short probe, the later ones of the runs before. What was said and what was
measured goes to pytest-benchmark's `extra_info`.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

TRIES, RIGHT = 10, 9
WIDEST = 2.0  # of an interval, its upper end over its lower


@pytest.mark.parametrize("length", [1024, 4096])
def test_a_run_takes_as_long_as_its_plan_says(benchmark: Any, tmp_path: Path, length: int) -> None:
    pytest.importorskip("llama_cpp", reason="pip install 'llm-backend-harness[llama-cpp]'")
    common = ("--max-model-len", str(length), "--results", str(tmp_path), "--json", "--quiet")
    tries: list[dict[str, float]] = []

    def answer(*arguments: str) -> Any:
        command = [sys.executable, "-m", "harness", "run", *arguments, *common]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return json.loads(done.stdout)

    def once() -> None:
        [plan] = answer("--plan")["plans"]
        said = plan["seconds"]
        tries.append({**said["interval"], "said": said["value"], "took": answer()["wall_seconds"]})

    benchmark.pedantic(once, rounds=TRIES)
    benchmark.extra_info["tries"] = tries
    assert all(one["high"] <= WIDEST * one["low"] for one in tries)
    assert sum(one["low"] <= one["took"] <= one["high"] for one in tries) >= RIGHT
