from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import jsonschema
import pytest

from harness.report.answer import run_answer
from harness.report.formats import as_json
from harness.report.schema import ANSWERS, schema_of
from harness.spec import RunSpec

if TYPE_CHECKING:
    from tests.unit.report.conftest import Sample

DOCS = Path(__file__).parents[3] / "docs"


@pytest.mark.parametrize("command", ANSWERS)
def test_committed_schema_is_the_one_of_the_models(command: str) -> None:
    file = f"{command}.schema.json"
    remedy = f"run: python -m harness.report.schema {command} > docs/{file}"
    assert (DOCS / file).read_text(encoding="utf-8") == schema_of(command), remedy


def test_schema_is_one_and_takes_a_summary(sample: Sample) -> None:
    schema = json.loads(schema_of("run"))
    jsonschema.Draft202012Validator.check_schema(schema)
    shown = as_json(run_answer(RunSpec(), sample.summary()))
    jsonschema.validate(json.loads(shown), schema)
