"""`harness models`: those that are known by name, those of other programs, and what was made of
them."""

from __future__ import annotations

import shlex
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.console import Target, give, remarks, target, tell
from harness.cli.options import FormatOption, JsonOption, OutputOption
from harness.errors import EngineError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from harness.engine.converted import Converted
    from harness.engine.found import FoundModel
    from harness.engine.models import KnownModel
    from harness.report.table import Listing

MIB = 2**20


def models(
    found: Annotated[
        bool,
        typer.Option(
            "--found",
            help="List what Ollama, the hub cache, LM Studio and llama.cpp hold here, and what to "
            "type for each.",
        ),
    ] = False,
    clean: Annotated[
        bool,
        typer.Option(
            "--clean",
            help="List what the cache holds of converted models, and remove it after a yes.",
        ),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="With --clean: remove it at once.")] = False,
    format_: FormatOption = None,
    json: JsonOption = False,
    output: OutputOption = None,
) -> None:
    """List the models that are known by name.

    Any other model is given as a file, a folder, a hub name or a name of Ollama's.
    """
    if found and clean:
        raise UsageError("--found and --clean do different things", remedy="Give one of them.")
    if yes and not clean:
        raise UsageError("--yes is for --clean", remedy="Give both, or neither.")
    wanted = target(format_, json, output)
    if found:
        _list_found(wanted)
    elif clean:
        _clean(wanted, yes)
    else:
        _list_known(wanted)


def _list_known(wanted: Target) -> None:
    from harness.engine.models import KNOWN_MODELS
    from harness.report.formats import Answer
    from harness.report.table import Listing

    every = [as_json(model) for model in KNOWN_MODELS.values()]
    table = Listing(("model", "MiB", "licence", "files"), list(map(_cells, every)), ["MiB"])
    give(Answer(table, {"models": every}, list(map(_record, every))), wanted)


_NONE_FOUND = (
    "No models of other programs were found where these have them by default, or where "
    "OLLAMA_MODELS, HF_HUB_CACHE, HF_HOME and LLAMA_CACHE say."
)


def _list_found(wanted: Target) -> None:
    from harness.engine.found import found_models
    from harness.report.formats import Answer
    from harness.report.table import Listing

    every = found_models()
    data = [{**asdict(one), "options": _options(one)} for one in every]
    titles = ("found in", "MiB", "format", "harness run ...")
    rows = [(one.source, _mib(one.size_bytes), one.format, _typed(one)) for one in every]
    parts = Listing(titles, rows, ["MiB"]) if rows else _NONE_FOUND
    give(Answer(parts, {"found": data}, data), wanted)


def _options(one: FoundModel) -> str:
    """What to type for `harness run`; empty for one that cannot be run."""
    if not one.model:
        return ""
    # `~` needs no quotes; within them, the harness itself reads it.
    is_plain = shlex.quote(one.model.removeprefix("~/")) == one.model.removeprefix("~/")
    given = f"--model {one.model if is_plain else shlex.quote(one.model)}"
    backend = _backend_for(one.format)
    return f"--backend {backend} {given}" if backend else given


def _backend_for(format_: str) -> str:
    """One that reads the format; empty where the default one does."""
    from harness.engine.registry import find_backend, registered_backends
    from harness.spec import RunSpec

    [default] = RunSpec().backend
    if format_ in find_backend(default).load().FORMATS:
        return ""
    others = (one.name for one in registered_backends() if format_ in _formats(one.name))
    return next(others, "")


def _formats(name: str) -> Sequence[str]:
    from harness.engine.registry import find_backend

    try:
        return find_backend(name).load().FORMATS
    except EngineError:
        return ()


def _typed(one: FoundModel) -> str:
    return _options(one) or f"{one.name}: {one.problem}"


def _clean(wanted: Target, yes: bool) -> None:
    from rich.console import Group

    from harness.engine.converted import converted_models
    from harness.report.formats import Answer
    from harness.report.table import Listing

    every = converted_models()
    if not every:
        give(Answer("The cache holds nothing that was made of models.", {"made": []}, []), wanted)
        return
    busy = [one for one in every if one.is_in_use]
    titles = ("model", "MiB", "last used", "kind", "in the cache")
    rows = [_row(one, one in busy) for one in every]
    listing = Listing(titles, rows, ["MiB"])
    free = [one for one in every if one not in busy]
    if not yes and free:
        _want_yes(listing, free)
    removed = [one for one in free if _removed(one)]
    data = [
        {
            "model": one.model,
            "kind": one.kind,
            "path": str(one.path),
            "size_bytes": one.size_bytes,
            "last_used": one.last_used.isoformat(),
            "in_use": one in busy,
            "removed": one in removed,
        }
        for one in every
    ]
    said = f"Removed {_total(removed)}." if removed else "Nothing was removed: all is in use."
    parts = Group(listing, "", said) if yes or not free else said
    give(Answer(parts, {"made": data}, data), wanted)


def _want_yes(listing: Listing, free: Sequence[Converted]) -> None:
    """Raises `typer.Exit` where the answer is no, `UsageError` where nobody can give one."""
    remarks().print(listing, crop=False)
    if not sys.stdin.isatty():
        raise UsageError("nobody is there to say yes", remedy="Give --yes as well.")
    question = f"Remove {_total(free)}? It is made again at the next use"
    if not typer.confirm(question, err=True):
        raise typer.Exit(1)


def _removed(one: Converted) -> bool:
    try:
        return one.remove()
    except OSError as error:
        tell(f"{one.path} cannot be removed: {error.strerror}")
        return False


def _row(one: Converted, is_busy: bool) -> Sequence[str]:
    day = one.last_used.astimezone().strftime("%Y-%m-%d")
    where = f"{one.path}{' (in use)' if is_busy else ''}"
    return one.model, _mib(one.size_bytes), day, one.kind, where


def _total(every: Iterable[Converted]) -> str:
    size = sum(one.size_bytes for one in every)
    return f"{_mib(size)} MiB"


def _mib(size_bytes: int | None) -> str:
    from harness.report.text import number

    return number(size_bytes / MIB if size_bytes else None)


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
    return [
        model["model"],
        _mib(model["size_bytes"]),
        model["licence"],
        "\n".join(_files(model)),
    ]


def _files(model: dict[str, Any]) -> list[str]:
    if model["file"]:
        converted = [f"converted: {folder}" for folder in model["converted"]]
        return [model["file"], *converted, *(f"tokenizer: {one}" for one in model["tokenizers"])]
    if model["size_bytes"]:
        return ["installed in parts; its first use puts them together"]
    return [f"not installed; run: {model['install']}"]
