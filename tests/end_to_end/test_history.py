"""A slow-down is planted in a dozen runs; `harness history` has to name it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from harness.pipeline.run import run
from harness.spec import RunSpec

BEFORE, AFTER = 6, 6
# Far apart and long: a machine that stands still for half a second is not to look like the change.
FAST_MS, SLOW_MS = 60, 300
DELAYS_MS = [FAST_MS] * BEFORE + [SLOW_MS] * AFTER


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory, small_data: str) -> tuple[Path, list[str]]:
    """A folder and the ids of its runs, the oldest first."""
    folder = tmp_path_factory.mktemp("history")
    specs = (
        RunSpec(
            backend=("mock",),
            data=small_data,
            voters=1,
            queries=8,
            calibration_queries=0,
            max_model_len=200,
            baselines=False,
            engine={"delay_ms": delay},
        )
        for delay in DELAYS_MS
    )
    return folder, [run(spec, folder).run_id for spec in specs]


def history(results: Path, *arguments: str, **environment: str) -> str:
    kept = {key: value for key, value in os.environ.items() if key != "FORCE_COLOR"}
    done = subprocess.run(
        [sys.executable, "-m", "harness", "history", "--results", str(results), *arguments],
        env=kept | {"COLUMNS": "80"} | environment,
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    assert done.stderr == ""
    return done.stdout


def test_the_change_names_both_runs_and_its_cause(results: tuple[Path, list[str]]) -> None:
    folder, ids = results
    [series] = json.loads(history(folder, "--json"))["series"]
    assert [point["run_id"] for point in series["points"]] == ids
    [change] = series["changes"]
    assert (change["before"], change["after"]) == (ids[BEFORE - 1], ids[BEFORE])
    assert change["outcome"] == "worse"
    cause = {"field": "options.delay_ms", "first": FAST_MS, "other": SLOW_MS}
    assert cause in change["differing"]


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_it_is_drawn_for_any_terminal(results: tuple[Path, list[str]], encoding: str) -> None:
    folder, ids = results
    text = history(folder, PYTHONIOENCODING=encoding)
    assert max(map(len, text.splitlines())) <= 80
    assert text.isascii() == (encoding == "ascii")
    assert "\x1b" not in text
    assert "mock, smollm2-135m MOCK" in text
    assert f"WORSE from run {BEFORE + 1} on: " in text
    last, first = (rf"{one} \(\S+, mock 1\)" for one in ids[BEFORE - 1 : BEFORE + 1])
    sentence = f"The last before is {last}, the first after {first}."
    assert re.search(sentence, " ".join(text.split()))
    assert f"options.delay_ms {FAST_MS} / {SLOW_MS}" in text
