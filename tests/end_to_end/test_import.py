"""`harness import` as its users meet it, and what `list` and `show` make of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.inside import inside
from tests.end_to_end.test_cli import harness
from tests.unit.imports.conftest import LLAMA_BENCH, LM_EVAL, SERVE


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a file of each tool, and one that is none."""
    rows = [LLAMA_BENCH, {**LLAMA_BENCH, "n_prompt": 0, "n_gen": 16}]
    files: dict[str, Any] = {"lb": rows, "serve": SERVE, "lm": LM_EVAL, "other": {"a": 1}}
    for name, content in files.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    return tmp_path


def test_all_or_nothing(folder: Path) -> None:
    done = inside(folder, "import", "lb.json", "other.json")
    assert (done.returncode, done.stdout) == (1, "")
    assert "error: other.json: this JSON is of no tool that is known here" in done.stderr
    assert "try: Give what one of these wrote: llama-bench" in done.stderr
    assert not (folder / "results").exists()


def test_imports_are_listed_and_shown_and_not_doubled(folder: Path) -> None:
    files = ("lb.json", "serve.json", "lm.json")
    done = harness(folder, "import", *files, "--name", "the server", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    rows = json.loads(done.stdout)["imports"]
    tests = ["pp64", "tg16", "serve", "some_task", "words"]
    assert [row["test"] for row in rows] == tests
    assert {row["name"] for row in rows} == {"the server"}

    again = inside(folder, "import", "serve.json", COLUMNS="80")
    assert again.returncode == 0
    serve_id = rows[2]["import_id"]
    assert f"serve.json is stored already, as {serve_id}: nothing was added." in again.stderr
    assert "time_to_first_token_ms" in again.stdout
    assert max(map(len, again.stdout.splitlines())) <= 80

    assert json.loads(inside(folder, "list", "--json").stdout)["imports"] == rows
    table = inside(folder, "list").stdout
    assert "holds no runs yet" in table
    assert "Imported from other tools:" in table

    shown = inside(folder, "show", serve_id[:-3])
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "output_tokens_per_second" in shown.stdout
    one = json.loads(inside(folder, "show", serve_id, "--json").stdout)
    assert one == {"schema_version": 1, **rows[2]}
