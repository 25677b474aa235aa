"""`harness models`: the models that are known by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.cli.console import give, target
from harness.cli.options import FormatOption, JsonOption, OutputOption

if TYPE_CHECKING:
    from harness.engine.models import KnownModel

MIB = 2**20


def models(
    format_: FormatOption = None, json: JsonOption = False, output: OutputOption = None
) -> None:
    """List the models that are known by name.

    Any other model is given as a file, a folder or a hub name.
    """
    from rich.console import Group

    from harness.engine.models import KNOWN_MODELS
    from harness.report.formats import Answer
    from harness.report.table import simple_table
    from harness.report.text import unbroken

    wanted = target(format_, json, output)
    every = [as_json(model) for model in KNOWN_MODELS.values()]
    table = simple_table(("model", "MiB", "licence"), map(_cells, every), numbers=["MiB"])
    # Below the table, where no column breaks a path.
    files = (unbroken(f"{model['model']}: {file}") for model in every for file in _files(model))
    parts = Group(table, "", *files)
    give(Answer(parts, {"models": every}, list(map(_record, every))), wanted)


def as_json(model: KnownModel) -> dict[str, Any]:
    """`size_bytes` is null where the model is not installed; `file` also where its parts were not
    put together yet, which its first use does. `converted` and `tokenizers` are folders made of
    it: with its weights in another form, and without weights."""
    from harness.engine.models import made_of

    path = model.path
    made = made_of(path) if path else []
    tokenizers = [folder for folder in made if folder.name.startswith("tokenizer-")]
    return {
        "model": model.name,
        "file": str(path) if path else None,
        "size_bytes": model.size_bytes,
        "sha256": model.sha256,
        "licence": model.licence,
        "install": model.install,
        "converted": [str(folder) for folder in made if folder not in tokenizers],
        "tokenizers": [str(folder) for folder in tokenizers],
    }


def _record(model: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in model.items() if not isinstance(value, list)}


def _cells(model: dict[str, Any]) -> list[str]:
    from harness.report.text import number

    size = model["size_bytes"]
    mib = number(size / MIB if size else None)
    return [model["model"], mib, model["licence"]]


def _files(model: dict[str, Any]) -> list[str]:
    if model["file"]:
        converted = [f"converted: {folder}" for folder in model["converted"]]
        return [model["file"], *converted, *(f"tokenizer: {one}" for one in model["tokenizers"])]
    if model["size_bytes"]:
        return ["installed in parts; its first use puts them together"]
    return [f"not installed; run: {model['install']}"]
