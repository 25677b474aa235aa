"""A plateau is planted in the mock; the curve of `harness run --shots` has to stop at it."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from harness.report.schema import schema_of
from harness.store.lock import prompting

SHOTS = (2, 8, 32, 64)
# One line of a prompt is its head.
PLANTED = 8
MOCK = ("threshold=50", "errors=0.1", f"plateau={PLANTED + 1}")


def harness(*arguments: str, code: int = 0) -> str:
    rest = {key: value for key, value in os.environ.items() if key != "FORCE_COLOR"}
    done = subprocess.run(
        [sys.executable, "-m", "harness", *arguments],
        env=rest | {"COLUMNS": "80"},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == code, done.stderr
    return done.stdout if code == 0 else done.stderr


def run(results: Path, *arguments: str, code: int = 0) -> str:
    options = [part for one in MOCK for part in ("--engine-option", one)]
    fixed = ["--backend", "mock", "--voters", "1", "--calibration-queries", "0", "--quiet"]
    fixed += ["--queries", "150", "--results", str(results)]
    return harness("run", *fixed, *options, *arguments, code=code)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("curve")


@pytest.fixture(scope="module")
def answer(folder: Path) -> Any:
    shots = ",".join(map(str, SHOTS))
    return json.loads(run(folder, "--shots", shots, "--name", "shots", "--json"))


def test_two_commands_at_once_are_two_groups(folder: Path, answer: Any) -> None:
    """What another process has begun has no run yet; its name is taken all the same."""
    with prompting(folder, "curve-1"):
        begun = json.loads(run(folder, "--shots", "2,4", "--json"))
        said = run(folder, "--shots", "2,4", "--name", "curve-1", code=2)
    assert begun["group"] == "curve-2"
    assert said.startswith("error: the name 'curve-1' is used already")


def test_it_stops_at_the_planted_number_or_beside_it(answer: Any) -> None:
    jsonschema.validate(answer, json.loads(schema_of("group")))
    curve = answer["curve"]
    [entry] = curve["entries"]
    assert [point["examples"] for point in entry["points"]] == list(SHOTS)
    assert [one["group"] for one in answer["summaries"]] == ["shots"] * len(SHOTS)
    assert entry["outcome"] == "stops"
    place = curve["run_ids"].index(entry["stops_at"])
    assert abs(place - SHOTS.index(PLANTED)) <= 1
    assert entry["last"]["paired"]
    of_examples = [one for one in curve["baselines"] if one["is_of_examples"]]
    [values] = [[one["value"] for one in of["accuracies"]] for of in of_examples]
    assert len(set(values)) > 1
    assert len(values) == len(SHOTS)


def test_show_draws_it_and_has_its_rows(folder: Path, answer: Any) -> None:
    drawn = harness("show", "shots", "--results", str(folder))
    assert "accuracy against examples MOCK" in drawn
    assert drawn.count("•") == len(SHOTS)
    assert "┊" in drawn
    assert "The curve stops rising from" in drawn
    assert all(one in drawn for one in answer["run_ids"])
    assert max(map(len, drawn.splitlines())) <= 80
    rows = list(
        csv.DictReader(
            io.StringIO(harness("show", "shots", "--results", str(folder), "--format", "csv"))
        )
    )
    entries = [row for row in rows if row["kind"] == "entry"]
    assert [float(row["examples"]) for row in entries] == list(SHOTS)
    assert [row["stops"] for row in entries].count("true") == 1
    assert "random forest, all features" in {row["name"] for row in rows}


def test_a_run_with_one_number_has_the_prompts_of_its_point(folder: Path, answer: Any) -> None:
    alone = json.loads(run(folder, "--shots", "8", "--no-baselines", "--json"))
    [point] = [one for one in answer["summaries"] if one["spec"]["shots"] == 8]
    assert alone["runs"][0]["prompts"] == point["runs"][0]["prompts"]
    assert alone["group"] is None


def test_a_curve_of_contexts_gets_a_name(folder: Path, answer: Any) -> None:
    given = ("--max-model-len", "400,300", "--no-baselines")
    found = json.loads(run(folder, *given, "--json"))
    assert found["group"] == "curve-1"
    assert found["curve"]["varied"] == "max_model_len"
    [entry] = found["curve"]["entries"]
    assert [point["max_model_len"] for point in entry["points"]] == [300, 400]
    assert entry["outcome"] == "unknown"


def test_what_cannot_be_leaves_nothing(folder: Path, answer: Any) -> None:
    before = json.loads(harness("list", "--results", str(folder), "--json"))
    assert "used already" in run(folder, "--shots", "1,2", "--name", "shots", code=2)
    assert "whole examples fit" in run(folder, "--shots", "1,500", code=2)
    assert json.loads(harness("list", "--results", str(folder), "--json")) == before
