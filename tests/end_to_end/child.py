"""Runs or completes a run for test_resume.py, and says how many cells are done as they are kept.

child.py FOLDER SPEC     begins a run of this JSON spec
child.py FOLDER          completes the latest
"""

from __future__ import annotations

import sys
from pathlib import Path

from harness.pipeline.prompting import Update
from harness.pipeline.run import resume, run
from harness.spec import RunSpec


def tell(update: Update) -> None:
    print(update.done, flush=True)  # noqa: T201 - the test reads it


def main(folder: Path, *specs: str) -> None:
    if specs:
        run(RunSpec.model_validate_json(specs[0]), folder, tell)
    else:
        resume("latest", folder, tell)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
