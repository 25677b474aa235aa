"""`harness run --plan` as its users meet it."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import jsonschema
import pytest

from harness.report.schema import schema_of
from tests.end_to_end.inside import inside

FEW = ("run", "--backend", "mock", "--voters", "2", "--queries", "4", "--no-baselines", "--quiet")


@pytest.mark.parametrize("columns", ["80", "140"])
def test_a_plan_says_what_a_run_takes(tmp_path: Path, small_data: str, columns: str) -> None:
    done = inside(tmp_path, *FEW, "--data", small_data, "--plan", COLUMNS=columns)
    assert (done.returncode, done.stderr) == (0, "")
    said = " ".join(done.stdout.split())
    assert said.startswith("2 voters x 4 queries, ")
    assert "The run will take about" in said
    assert "a short probe" in said
    assert max(map(len, done.stdout.splitlines())) <= int(columns)
    assert inside(tmp_path, "list").stdout.count("mock") == 0


def test_each_point_of_a_curve_has_a_plan(tmp_path: Path, small_data: str) -> None:
    points = (*FEW, "--data", small_data, "--plan", "--shots", "2,max")
    done = inside(tmp_path, *points, "--json")
    answer = json.loads(done.stdout)
    jsonschema.validate(answer, json.loads(schema_of("plan")))
    assert [one["shots"] for one in answer["plans"]] == [2, None]
    rows = list(csv.DictReader(io.StringIO(inside(tmp_path, *points, "--format", "csv").stdout)))
    assert [(row["entry"], row["shots"]) for row in rows] == [("mock", "2"), ("mock", "")]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--resume", "latest"], 2, "--plan is for a run that is to be begun"),
        (["--engine-option", "memory_gib=100000"], 1, "mock: it would take 100000.0 GiB of memory"),
        (["--engine-option", "crash_at=1"], 1, "mock: mock failed at the first prompts"),
    ],
)
def test_what_cannot_be_planned_is_one_error(
    tmp_path: Path, small_data: str, arguments: list[str], code: int, said: str
) -> None:
    plain = ("run", "--quiet") if "--resume" in arguments else (*FEW, "--data", small_data)
    done = inside(tmp_path, *plain, "--plan", *arguments)
    assert done.returncode == code
    assert done.stderr.startswith(f"error: {said}")
    assert done.stderr.count("error:") == 1
