"""Prompt templates: data files, one a wording; `harness.workload.prompt` reads them."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent


def template_names() -> list[str]:
    return sorted(path.stem for path in FOLDER.glob("*.toml"))
