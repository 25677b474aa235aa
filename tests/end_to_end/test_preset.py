"""`--preset ece209` on the mock: what it says first, and what stands under the table."""

from __future__ import annotations

import json
import shlex
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests.end_to_end.inside import inside as harness


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """Over a few vectors of more numbers than the preset shows."""
    folder = tmp_path_factory.mktemp("preset")
    X = np.random.default_rng(0).normal(size=(60, 24))
    y = np.array(["REAL", "FAKE"] * 30)
    np.savez(folder / "few.npz", X_train=X[:40], y_train=y[:40], X_test=X[40:], y_test=y[40:])
    size = ("--data", "few.npz", "--backend", "mock", "--queries", "4", "--max-model-len", "2048")
    return folder, harness(folder, "run", "--preset", "ece209", *size, "--no-baselines")


def test_the_overflow_comes_first_and_the_rest_with_the_answer(
    run: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    folder, done = run
    assert done.returncode == 0, done.stderr
    said = " ".join(done.stderr.split())
    assert "examples fit. With all of them a prompt and its reply would take" in said
    assert "times the 2,048 that there are." in said
    assert "1 voter x 4 queries x 3 attempts; free decoding" in " ".join(done.stdout.split())
    [answer] = json.loads(harness(folder, "show", "latest", "--json").stdout)["runs"]
    fit = answer["context_fit"]
    assert fit["all_tokens"] > 2048 > 0 < fit["examples_per_voter"][0] < fit["examples_available"]
    assert answer["cells"]["done"] == 2 * 4 * 3
    assert answer["shuffled"]["vote"] == answer["accuracy"]["headline"] == "majority"
    assert [one["baseline"] for one in answer["against_baselines"]] == [
        "the same prompts, labels shuffled"
    ]


def test_the_preset_is_in_the_line_that_repeats_the_run(
    run: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    folder, _ = run
    line = harness(folder, "show", "latest", "--command").stdout
    assert shlex.split(line) == [
        *("harness", "run", "--backend", "mock", "--data", "few.npz", "--queries", "4"),
        *("--preset", "ece209", "--max-model-len", "2048", "--no-baselines"),
    ]


def test_a_prompt_behind_shuffled_labels_can_be_looked_at(
    run: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    folder, _ = run
    shown = [
        json.loads(harness(folder, "show", "latest", "--prompt", place, "--json").stdout)
        for place in ("0:3", "0:s3")
    ]
    assert [one["role"] for one in shown] == ["query", "shuffled"]
    assert shown[0]["row"] == shown[1]["row"]
    assert shown[0]["text"] != shown[1]["text"]
    assert sorted(shown[0]["text"].split()) == sorted(shown[1]["text"].split())
