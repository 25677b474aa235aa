"""The JSON schemas of what `harness run`, `harness show GROUP`, `harness fit` and `harness run
--plan` print with `--json`.

python -m harness.report.schema > docs/run.schema.json
python -m harness.report.schema group > docs/group.schema.json
python -m harness.report.schema fit > docs/fit.schema.json
python -m harness.report.schema plan > docs/plan.schema.json
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping

from harness.record import Record
from harness.report.answer import RunJson
from harness.report.fit import FitJson
from harness.report.formats import JSON_VERSION
from harness.report.group import GroupJson
from harness.report.plan import PlanJson

DIALECT = "https://json-schema.org/draft/2020-12/schema"
ANSWERS: Mapping[str, type[Record]] = {
    "run": RunJson,
    "group": GroupJson,
    "fit": FitJson,
    "plan": PlanJson,
}
"""What the commands print, by their names."""


def schema_of(command: str) -> str:
    """The schema as the text of its file."""
    # For what is written: a field with a default may be left out of what is read, and never is
    # here.
    answer = ANSWERS[command].model_json_schema(mode="serialization")
    version = {"schema_version": {"const": JSON_VERSION}}
    schema = {
        "$schema": DIALECT,
        **answer,
        "properties": {**version, **answer["properties"]},
        "required": ["schema_version", *answer["required"]],
    }
    return json.dumps(schema, indent=2) + "\n"


if __name__ == "__main__":
    sys.stdout.write(schema_of(*sys.argv[1:] or ["run"]))
