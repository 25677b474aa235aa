from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import jsonschema

from harness.report.answer import run_answer
from harness.report.formats import as_json
from harness.report.schema import run_schema
from harness.spec import RunSpec

if TYPE_CHECKING:
    from tests.unit.report.conftest import Sample

COMMITTED = Path(__file__).parents[3] / "docs" / "run.schema.json"
REMEDY = "run: python -m harness.report.schema > docs/run.schema.json"


def test_committed_schema_is_the_one_of_the_models() -> None:
    assert COMMITTED.read_text(encoding="utf-8") == run_schema(), REMEDY


def test_schema_is_one_and_takes_a_summary(sample: Sample) -> None:
    schema = json.loads(run_schema())
    jsonschema.Draft202012Validator.check_schema(schema)
    shown = as_json(run_answer(RunSpec(), sample.summary()))
    jsonschema.validate(json.loads(shown), schema)
