"""The JSON schema of what `harness run --json` prints.

python -m harness.report.schema > docs/run.schema.json
"""

from __future__ import annotations

import json
import sys

from harness.report.answer import RunJson
from harness.report.formats import JSON_VERSION

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def run_schema() -> str:
    """The schema as the text of its file."""
    # For what is written: a field with a default may be left out of what is read, and never is
    # here.
    of_run = RunJson.model_json_schema(mode="serialization")
    version = {"schema_version": {"const": JSON_VERSION}}
    schema = {
        "$schema": DIALECT,
        **of_run,
        "properties": {**version, **of_run["properties"]},
        "required": ["schema_version", *of_run["required"]],
    }
    return json.dumps(schema, indent=2) + "\n"


if __name__ == "__main__":
    sys.stdout.write(run_schema())
