"""`harness models`: the models that are known by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.cli.console import give
from harness.cli.options import JsonOption

if TYPE_CHECKING:
    from harness.engine.models import KnownModel

MIB = 2**20


def models(json: JsonOption = False) -> None:
    """List the models that have a name; any other is given as a file."""
    from harness.engine.models import KNOWN_MODELS
    from harness.report.table import simple_table

    every = [as_json(model) for model in KNOWN_MODELS.values()]
    give(every, simple_table(("model", "MiB", "licence", "file"), map(_cells, every)), json)


def as_json(model: KnownModel) -> dict[str, Any]:
    """`file` and `size_bytes` are null where the model is not installed."""
    path = model.path
    return {
        "model": model.name,
        "file": str(path) if path else None,
        "size_bytes": path.stat().st_size if path else None,
        "licence": model.licence,
        "install": model.install,
    }


def _cells(model: dict[str, Any]) -> list[str]:
    from harness.report.text import number

    size = model["size_bytes"]
    where = model["file"] or f"not installed; run: {model['install']}"
    return [model["model"], number(size / MIB if size else None), model["licence"], where]
