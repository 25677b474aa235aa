"""What is said in two places of the repository is the same."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_hooks_before_a_commit_run_what_make_check_runs() -> None:
    makefile = (ROOT / "Makefile").read_text()
    [recipe] = re.findall(r"^check:.*\n((?:\t.*\n)+)", makefile, re.MULTILINE)
    checked = [line.strip().replace("$(BIN)", ".venv/bin") for line in recipe.splitlines()]
    hooks = (ROOT / ".pre-commit-config.yaml").read_text()
    assert re.findall(r"^ +entry: (.*)$", hooks, re.MULTILINE) == checked


def test_the_licence_is_whole_and_whose_the_project_says() -> None:
    licence = (ROOT / "LICENSE").read_text()
    assert "Apache License\n" in licence
    assert "END OF TERMS AND CONDITIONS" in licence
    assert re.search(r"^ +Copyright \d{4} The llm-backend-harness authors$", licence, re.MULTILINE)
